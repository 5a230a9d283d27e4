// Package scaffold writes a small app that runs, as a start for one's own.
package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
)

// The folder's name keeps the go command from taking it for a package of this module.
//
//go:embed all:_app
var files embed.FS

const (
	placeholder = "APPNAME"
	library     = "github.com/stint-dev/stint"
	goVersion   = "1.26.0" // as in the library's own go.mod
	maxNamed    = 10       // files that an error names
)

// Options say what to write.
type Options struct {
	Module  string // the app's module path; "": example.com/ and the folder's name
	Replace string // a folder with the library's source, for go.mod; "": none
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// Name returns the app's name in a folder: lower-case letters, digits and dashes.
func Name(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-"), "-")
	if name == "" {
		name = "app"
	}
	return name, nil
}

// Write writes the app into a folder, which is made if it does not exist, and returns the names of the files. A
// folder with files in it is refused; .git is not counted.
func Write(dir string, o Options) ([]string, error) {
	name, err := Name(dir)
	if err != nil {
		return nil, err
	}
	if err := checkEmpty(dir); err != nil {
		return nil, err
	}
	mod, err := goMod(name, o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, "go.mod"), mod); err != nil {
		return nil, err
	}
	written := []string{"go.mod"}
	err = fs.WalkDir(files, "_app", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(p)
		if err != nil {
			return err
		}
		file := strings.ReplaceAll(path.Base(p), placeholder, name)
		written = append(written, file)
		return writeFile(filepath.Join(dir, file), strings.ReplaceAll(string(text), placeholder, name))
	})
	return written, err
}

// checkEmpty returns an error that names what is in a folder.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var found []string
	for _, e := range entries {
		if e.Name() != ".git" {
			found = append(found, e.Name())
		}
	}
	if len(found) == 0 {
		return nil
	}
	more := ""
	if n := len(found) - maxNamed; n > 0 {
		found, more = found[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("%s is not empty, nothing was written: it has %s%s", dir, strings.Join(found, ", "), more)
}

// writeFile writes a file that must not exist.
func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// goMod returns the text of go.mod. go mod tidy adds what is missing.
func goMod(name string, o Options) (string, error) {
	if o.Module == "" {
		o.Module = "example.com/" + name // a path without a dot is taken for one of the standard library's
	}
	text := fmt.Sprintf("module %s\n\ngo %s\n", o.Module, goVersion)
	version := releasedVersion()
	if o.Replace != "" {
		dir, err := filepath.Abs(o.Replace)
		if err != nil {
			return "", err
		}
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil || !strings.HasPrefix(string(mod), "module "+library+"\n") {
			return "", fmt.Errorf("%s does not have the source of %s", o.Replace, library)
		}
		version = "v0.0.0"
		text += fmt.Sprintf("\nreplace %s => %q\n", library, filepath.ToSlash(dir))
	}
	if version != "" {
		text += fmt.Sprintf("\nrequire %s %s\n", library, version)
	}
	return text, nil
}

var released = regexp.MustCompile(`^v\d+\.\d+\.\d+(-(alpha|beta|rc)[.0-9]*)?$`)

// releasedVersion returns the version of the library that this program was built from; "": none that has a name.
func releasedVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != library || !released.MatchString(info.Main.Version) {
		return ""
	}
	return info.Main.Version
}
