package doctest

import (
	"bufio"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var record = flag.Bool("record", false, "run the first program of the docs, kill it, run it again, and write docs/images/start.svg")

const recordingPath = "docs/images/start.svg"

// A shot is a line of a recording, and when it appeared.
type shot struct {
	at   time.Duration
	text string
}

// docs/images/start.svg is a recording of the first program of the docs. A test cannot record it anew, for that takes as long as the
// program; it looks for the lines that the page shows.
func TestRecording(t *testing.T) {
	if *record {
		if err := os.WriteFile(filepath.Join(root, recordingPath), []byte(animate(recordStart(t))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	svg := mustRead(t, recordingPath)
	for _, b := range (page{startPage, mustRead(t, startPage)}).blocks() {
		if b.info != "text" {
			continue
		}
		for line := range strings.Lines(b.text) {
			if !strings.Contains(svg, escape(strings.TrimSpace(line))) {
				t.Errorf("%s does not show %q: go test ./internal/doctest -run Recording -record", recordingPath, line)
			}
		}
	}
	if err := xml.Unmarshal([]byte(svg), new(struct{ XMLName xml.Name })); err != nil {
		t.Errorf("%s: %v", recordingPath, err)
	}
}

// recordStart runs the first program until it has printed three numbers, kills it, and runs it again to its end.
func recordStart(t *testing.T) (shots []shot) {
	t.Helper()
	code, _, _ := strings.Cut(mustRead(t, startPage), "```\n\nRun it")
	_, code, _ = strings.Cut(code, "```go\n")
	binary, pkg, overlay := overlaid(t, map[string]string{"main.go": code})
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", binary, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	dir, began := t.TempDir(), time.Now()
	add := func(text string) { shots = append(shots, shot{time.Since(began), text}) }
	play := func(until string) {
		add("$ ./counter")
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Dir = dir
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			add(lines.Text())
			if lines.Text() == until {
				time.AfterFunc(400*time.Millisecond, func() { cmd.Process.Kill() }) // SIGKILL, as kill -9 sends, in the next number
			}
		}
		if until != "" {
			add("Killed")
		}
		if err := cmd.Wait(); (err != nil) != (until != "") {
			t.Fatalf("the program ended with %v", err)
		}
	}
	play("number 3 of 10")
	play("")
	play("") // it prints the stored result
	return shots
}

// animate returns a picture in which each line appears when it did, again and again. Where nothing moves, all lines are there.
func animate(shots []shot) string {
	const lineHeight, left, pause = 21, 18, 4 * time.Second
	total := shots[len(shots)-1].at + pause
	height := lineHeight*len(shots) + 28
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 %d" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">`+
		"\n<title>A program is killed in the middle, and goes on where it was</title>\n"+
		`<rect width="560" height="%d" rx="8" fill="#1d2330"/>`+"\n", height, height)
	for i, s := range shots {
		fill := "#d8dee9"
		switch {
		case strings.HasPrefix(s.text, "$"):
			fill = "#8fbcbb"
		case s.text == "Killed":
			fill = "#e78284"
		}
		begin := float64(s.at) / float64(total)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s<animate attributeName="opacity" values="0;0;1;1" keyTimes="0;%.4f;%.4f;1" dur="%.1fs" repeatCount="indefinite"/></text>`+"\n",
			left, 28+i*lineHeight, fill, escape(s.text), begin, begin+.0001, total.Seconds())
	}
	return b.String() + "</svg>\n"
}

func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
