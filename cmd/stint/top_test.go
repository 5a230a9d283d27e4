package main

import (
	"bufio"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// top prints one view if its output is no terminal.
func TestTop(t *testing.T) {
	path, _ := paid(t)
	must(t, "", "pause", path, "default")
	got := must(t, "stint top: "+path, "top", path)
	for _, want := range []string{"2 succeeded", "1 failed", "2 queued", "last 5 min: ", "\n\nQUEUE", "default", "paused", "\n\nFAILED", "no money"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "\x1b") || strings.Contains(got, "RUNNING\tTASK") {
		t.Errorf("the view: %q", got)
	}
	must(t, "1 succeeded", "top", "-once", worked(t))
}

// A view has no more lines than the terminal, and none longer.
func TestTopFits(t *testing.T) {
	path, _ := paid(t)
	for range 30 {
		must(t, "", "enqueue", path, "pay", `"x"`, "-queue", "q"+strings.Repeat("é", 70), "-force")
	}
	s := &session{options: &options{}}
	var err error
	if s.c, err = (&database{path: path}).open(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	defer s.c.Close()
	for _, size := range [][2]int{{80, 24}, {20, 5}, {200, 60}, {1, 1}} {
		v := &view{s: s, width: size[0], height: size[1], name: path}
		lines, err := v.lines(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := v.write(&b, lines, true); err != nil {
			t.Fatal(err)
		}
		plainText := strings.NewReplacer(homeCursor, "", clearLine, "", clearBelow, "", bold, "", plain, "").Replace(b.String())
		all := strings.Split(plainText, "\r\n")
		if len(all) > v.height {
			t.Errorf("%v: %d lines", size, len(all))
		}
		for _, l := range all {
			if n := len([]rune(l)); n > v.width || strings.Contains(l, "\x1b") {
				t.Errorf("%v: a line of %d columns: %q", size, n, l)
			}
		}
	}
}

// On a terminal top is live, until q is pressed; the screen is then as it was.
func TestTopOnTerminal(t *testing.T) {
	script, err := exec.LookPath("script") // of util-linux
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("script makes the terminal")
	}
	path, _ := paid(t)
	c := exec.Command(script, "-qfec", "'"+built(t)+"' top -every 100ms '"+path+"'", "/dev/null")
	keys, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	seen := ""
	for views := 0; views < 3; {
		text, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d views: %v\n%q", views, err, seen+text)
		}
		seen += text
		views = strings.Count(seen, homeCursor)
	}
	if !strings.HasPrefix(seen, enterScreen) || !strings.Contains(seen, "no money") {
		t.Errorf("it prints %q", seen)
	}
	if _, err := io.WriteString(keys, " "); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(seen, "held") {
		text, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after a space: %v\n%q", err, seen+text)
		}
		seen += text
	}
	if _, err := io.WriteString(keys, "q"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(rest)), leaveScreen) {
		t.Errorf("after q: %v %q", err, rest)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}
