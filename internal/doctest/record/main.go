// Command record runs the first program of the docs, kills it, runs it again, and writes docs/images/start.svg, which shows that.
//
//	go run ./internal/doctest/record
package main

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const startPage, picture = "docs/start.md", "docs/images/start.svg"

// A shot is a line of a recording, and when it appeared.
type shot struct {
	at   time.Duration
	text string
}

type recording struct {
	began  time.Time
	dir    string // where the program works
	binary string
	shots  []shot
}

func main() {
	dir, err := os.MkdirTemp("", "record")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r := recording{dir: dir, binary: filepath.Join(dir, "counter")}
	err = r.build()
	r.began = time.Now()
	if err == nil {
		err = errors.Join(r.play("number 3 of 10"), r.play(""), r.play("")) // the last prints the stored result
	}
	if err == nil {
		err = os.WriteFile(picture, []byte(animate(r.shots)), 0o644)
	}
	if err != nil {
		log.Print(err)
	}
}

// build builds the first program of the page, as a file of this module for the compiler alone.
func (r *recording) build() error {
	page, err := os.ReadFile(startPage)
	if err != nil {
		return fmt.Errorf("%w: run it in the root of the repository", err)
	}
	_, code, _ := strings.Cut(string(page), "```go\n")
	code, _, _ = strings.Cut(code, "```\n")
	source, overlay := filepath.Join(r.dir, "main.go"), filepath.Join(r.dir, "overlay.json")
	at, err := filepath.Abs("internal/doctest/counter")
	if err != nil {
		return err
	}
	spec, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(at, "main.go"): source}})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(source, []byte(code), 0o600), os.WriteFile(overlay, spec, 0o600)); err != nil {
		return err
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", r.binary, at).CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

func (r *recording) add(text string) { r.shots = append(r.shots, shot{time.Since(r.began), text}) }

// play runs the program to its end, or kills it after a line.
func (r *recording) play(until string) error {
	r.add("$ ./counter")
	cmd := exec.Command(r.binary)
	cmd.Dir = r.dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		r.add(lines.Text())
		if lines.Text() == until {
			time.AfterFunc(400*time.Millisecond, func() { cmd.Process.Kill() }) // SIGKILL, as kill -9 sends, in the next number
		}
	}
	err = cmd.Wait()
	if until != "" && err != nil {
		r.add("Killed")
		return nil
	}
	return err
}

// animate returns a picture in which each line appears when it did, again and again. Where nothing moves, all lines are there.
func animate(shots []shot) string {
	const lineHeight, left, pause = 21, 18, 4 * time.Second
	total := shots[len(shots)-1].at + pause
	height := lineHeight*len(shots) + 28
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 %d" `+
		`font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">`+
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
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s<animate attributeName="opacity" values="0;0;1;1" `+
			`keyTimes="0;%.4f;%.4f;1" dur="%.1fs" repeatCount="indefinite"/></text>`+"\n",
			left, 28+i*lineHeight, fill, escape(s.text), begin, begin+.0001, total.Seconds())
	}
	return b.String() + "</svg>\n"
}

func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
