package doctest

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the commands of the docs answer into the docs")

// A session is a block "sh-session" of a page, as the commands in it.
type session struct {
	block
	commands []command
}

type command struct{ line, shown string }

func sessionsOf(p page) (all []session) {
	for _, b := range p.blocks() {
		if b.info != "sh-session" {
			continue
		}
		s := session{block: b}
		for line := range strings.Lines(b.text) {
			if c, ok := strings.CutPrefix(line, "$ "); ok {
				s.commands = append(s.commands, command{line: strings.TrimSpace(c)})
			} else if n := len(s.commands); n > 0 {
				s.commands[n-1].shown += line
			}
		}
		all = append(all, s)
	}
	return all
}

// Shell sessions of the docs are as shown. Those of one page are run one after another, in a directory with the file app.db of
// the sample program. An ID that a page shows stands for the one that is at its place.
func TestSessions(t *testing.T) {
	skipShort(t)
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/stint-dev/stint/cmd/stint").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	sample := filepath.Join(t.TempDir(), "app.db")
	if err := writeSample(t.Context(), sample); err != nil {
		t.Fatal(err)
	}
	for _, p := range mustPages(t) {
		all := sessionsOf(p)
		if len(all) == 0 {
			continue
		}
		t.Run(p.path, func(t *testing.T) {
			dir := t.TempDir()
			copyFile(t, sample, filepath.Join(dir, "app.db"))
			r := runner{dir: dir, env: append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
				"STINT_DATABASE_URL=", "STINT_DB=", "TZ=UTC"), ids: map[string]string{}}
			for _, s := range all {
				r.play(t, s)
			}
			if *update {
				r.rewrite(t, p)
			}
		})
	}
}

type runner struct {
	dir     string
	env     []string
	ids     map[string]string // of the page -> of this file
	answers []string          // of all commands
}

func (r *runner) play(t *testing.T, s session) {
	for _, c := range s.commands {
		line := idPattern.ReplaceAllStringFunc(c.line, func(id string) string {
			if own, ok := r.ids[id]; ok {
				return own
			}
			return id
		})
		cmd := exec.CommandContext(t.Context(), "bash", "-c", line)
		cmd.Dir, cmd.Env = r.dir, r.env
		out, err := cmd.CombinedOutput()
		text := string(out)
		r.answers = append(r.answers, text)
		shown, got := idPattern.FindAllString(c.shown, -1), idPattern.FindAllString(text, -1)
		for i := range min(len(shown), len(got)) {
			r.ids[shown[i]] = got[i]
		}
		if !*update && !matches(c.shown, text) {
			t.Errorf("%s:%d: %s (%v) answers\n%s\nwant\n%s\n\nrun: go test ./internal/doctest -run Sessions -update", s.page, s.line, c.line, err, text, c.shown)
		}
	}
}

// rewrite puts the answers into the page, but not those that are shown in part.
func (r *runner) rewrite(t *testing.T, p page) {
	text, n := p.text, 0
	for _, s := range sessionsOf(p) {
		var b strings.Builder
		for _, c := range s.commands {
			b.WriteString("$ " + c.line + "\n")
			if strings.Contains(c.shown, "…") || matches(c.shown, r.answers[n]) {
				b.WriteString(c.shown)
			} else {
				for line := range strings.Lines(r.answers[n]) {
					b.WriteString(strings.TrimRight(line, " \n") + "\n")
				}
			}
			n++
		}
		text = strings.Replace(text, s.text, b.String(), 1)
	}
	if err := os.WriteFile(filepath.Join(root, p.path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
