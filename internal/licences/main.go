// The licences command writes the licences of all that the released programs contain: docs/licences.md, which names
// what was copied into the repository, then those of Go and of each module that is linked. .goreleaser.yaml runs it.
//
//	go run ./internal/licences FILE
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// programs are what is released: package by folder of its module.
var programs = []struct{ dir, pkg string }{{".", "./cmd/stint"}, {"hatchet", "./cmd/stint-hatchet"}, {"import", "./cmd/stint-import"}}

// systems are those a release is made for. They differ in what they link.
var systems = []string{"linux", "darwin", "windows"}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)([.-].*)?$`)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: licences FILE")
		os.Exit(2)
	}
	var all bytes.Buffer
	err := write(&all, ".")
	if err == nil {
		err = os.WriteFile(os.Args[1], all.Bytes(), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// write writes the licences; root is the folder of the repository. A module without a licence is an error.
func write(w io.Writer, root string) error {
	modules, err := linked(root)
	if err != nil {
		return err
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	if err := section(w, "stint", filepath.Join(root, "LICENSE")); err != nil {
		return err
	}
	if err := section(w, "copied into stint", filepath.Join(root, "docs", "licences.md")); err != nil {
		return err
	}
	if err := section(w, "Go", filepath.Join(strings.TrimSpace(string(goroot)), "LICENSE")); err != nil {
		return err
	}
	for _, m := range modules {
		name, dir, _ := strings.Cut(m, "\t")
		found, err := licencesIn(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, f := range found {
			if err := section(w, name, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func section(w io.Writer, name, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "==== %s: %s\n\n%s\n\n", name, filepath.Base(path), bytes.TrimSpace(text))
	return err
}

// linked returns the modules that the programs link on any system, sorted: name and version, a tab, and the folder.
func linked(root string) ([]string, error) {
	const format = `{{with .Module}}{{if .Version}}{{if not .Replace}}{{.Path}} {{.Version}}{{"\t"}}{{.Dir}}{{end}}{{end}}{{end}}`
	var all []string
	for _, p := range programs {
		for _, system := range systems {
			cmd := exec.Command("go", "list", "-deps", "-f", format, p.pkg)
			cmd.Dir = filepath.Join(root, p.dir)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH=amd64")
			var failed strings.Builder
			cmd.Stderr = &failed
			out, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("go list %s for %s: %w: %s", p.pkg, system, err, failed.String())
			}
			all = append(all, strings.Split(strings.TrimSpace(string(out)), "\n")...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func licencesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if !e.IsDir() && licenceFile.MatchString(e.Name()) {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it has no file with its licence")
	}
	return found, nil
}
