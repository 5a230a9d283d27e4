package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is the sum of all files.
type report struct {
	files, lines int
	packages     map[string]bool // directory and package name
	imports      map[string]int
	longest      []located
	failures     []failure
}

type located struct {
	function
	path string
}

type failure struct{ path, err string }

func newReport() *report {
	return &report{packages: map[string]bool{}, imports: map[string]int{}}
}

func (r *report) add(s source, a analysis) {
	r.files++
	r.lines += a.Lines
	r.packages[path.Dir(s.Path)+" "+a.Package] = true
	for _, i := range a.Imports {
		r.imports[i]++
	}
	for _, f := range a.Longest {
		r.longest = append(r.longest, located{f, s.Path})
	}
	slices.SortStableFunc(r.longest, func(x, y located) int { return cmp.Compare(y.Lines, x.Lines) })
	r.longest = r.longest[:min(len(r.longest), keep)]
}

func (r *report) fail(s source, err error) {
	r.failures = append(r.failures, failure{s.Path, strings.ReplaceAll(err.Error(), "\n", " ")})
}

func (r *report) write(w io.Writer) {
	fmt.Fprintf(w, "%d files, %d packages, %d lines\n", r.files, len(r.packages), r.lines)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nLongest functions:")
	for _, f := range r.longest {
		fmt.Fprintf(t, "  %d lines\t%s\t%s:%d\n", f.Lines, f.Name, f.path, f.Line)
	}
	fmt.Fprintln(t, "\nMost imported packages:")
	names := slices.SortedFunc(maps.Keys(r.imports), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.imports[b], r.imports[a]), cmp.Compare(a, b))
	})
	for _, n := range names[:min(len(names), keep)] {
		fmt.Fprintf(t, "  %d files\t%s\n", r.imports[n], n)
	}
	t.Flush()
	fmt.Fprintf(w, "\n%d files do not parse:\n", len(r.failures))
	for _, f := range r.failures {
		fmt.Fprintf(w, "  %s\n", f.err)
	}
}

// progress shows a bar on a terminal, and elsewhere prints a line now and then.
type progress struct {
	total    int
	terminal bool
	shown    time.Time
	lines    int
}

func newProgress(total int) *progress {
	info, err := os.Stderr.Stat()
	return &progress{total: total, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (p *progress) step(done int) {
	const width = 40
	switch {
	case p.terminal && time.Since(p.shown) > 50*time.Millisecond:
		p.shown = time.Now()
		full := width * done / p.total
		fmt.Fprintf(os.Stderr, "\r[%s%s] %d/%d", strings.Repeat("=", full), strings.Repeat(" ", width-full), done, p.total)
	case !p.terminal && done*20/p.total > p.lines:
		p.lines = done * 20 / p.total
		fmt.Fprintf(os.Stderr, "%d of %d files\n", done, p.total)
	}
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
