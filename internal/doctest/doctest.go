// Package doctest checks the documentation: its links lead somewhere, its programs print what it says, and its commands answer
// what it shows. Only its tests do something; snippets that are no whole programs are compiled by the tests of the root.
package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// root is the directory of the module, as seen from this package.
const root = "../.."

// A page is a document, with its path from the root.
type page struct{ path, text string }

// A block is a fenced block of a page.
type block struct {
	page string // its path
	line int    // of its first line of text, from 1
	info string // what is behind the opening fence
	text string
}

// pages returns all documents of the repository, in the order of their paths.
func pages() (all []page, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") && path != root):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		all = append(all, page{filepath.ToSlash(rel), strings.ReplaceAll(string(text), "\r\n", "\n")})
		return err
	})
	return all, err
}

// blocks returns the fenced blocks of a page. Those in lists are indented: their text is not.
func (p page) blocks() (all []block) {
	var fence, indent string
	for i, line := range strings.Split(p.text, "\n") {
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case fence == "" && strings.HasPrefix(trimmed, "```"):
			fence, indent = "```", line[:len(line)-len(trimmed)]
			all = append(all, block{page: p.path, line: i + 2, info: strings.TrimPrefix(trimmed, "```")})
		case fence != "" && strings.HasPrefix(trimmed, fence):
			fence = ""
		case fence != "":
			all[len(all)-1].text += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	return all
}

// prose returns the lines of a page with those of its blocks empty.
func (p page) prose() []string {
	lines := strings.Split(p.text, "\n")
	fenced := false
	for i, line := range lines {
		mark := strings.HasPrefix(strings.TrimLeft(line, " "), "```")
		if mark || fenced {
			lines[i] = ""
		}
		if mark {
			fenced = !fenced
		}
	}
	return lines
}
