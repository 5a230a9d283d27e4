package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A folder with files is refused, and nothing is written there.
func TestInitRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, "init", dir); err == nil || !strings.Contains(err.Error(), "it has mine.txt") {
		t.Errorf("init of a folder with a file: %v\n%s", err, got)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("after the refusal: %v, %v", all, err)
	}
	if got, err := ask(t, "init", "-replace", dir, filepath.Join(dir, "new")); err == nil || !strings.Contains(err.Error(), "does not have the source") {
		t.Errorf("init -replace of another folder: %v\n%s", err, got)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("init -replace of another folder wrote something")
	}
	if got, err := ask(t, "init"); exitCode(err) != 2 {
		t.Errorf("init without a folder: %v\n%s", err, got)
	}
	if err := os.Mkdir(filepath.Join(dir, "git"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "git", ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "wrote main.go", "init", "-module", "example.org/x", filepath.Join(dir, "git"))
	if mod, err := os.ReadFile(filepath.Join(dir, "git", "go.mod")); err != nil || !strings.HasPrefix(string(mod), "module example.org/x\n") {
		t.Errorf("go.mod: %v\n%s", err, mod)
	}
}

// What init writes compiles, passes its own test and works: a job that is under way when the process is killed is
// continued by the next.
func TestInit(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	dir := filepath.Join(t.TempDir(), "My app")
	must(t, "Now: cd", "init", "-replace", "../..", dir)
	sums, err := os.ReadFile("../../go.sum") // or go mod tidy would ask the network for them
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "my-app")
	for _, args := range [][]string{{"mod", "tidy"}, {"vet", "."}, {"test", "."}, {"build", "-o", bin, "."}} {
		inDir(t, dir, "go", args...)
	}
	if litestream, err := exec.LookPath("litestream"); err == nil {
		inDir(t, dir, litestream, "databases", "-config", "litestream.yml")
	}

	a := startApp(t, bin, dir, "-pace", "1h")
	first := a.postJob(t)
	a.await(t, first, func(j scaffoldJob) bool { return j.Done == 1 })
	a.kill(t)

	a = startApp(t, bin, dir, "-pace", "1ms")
	j := a.await(t, first, func(j scaffoldJob) bool { return j.State == "succeeded" })
	if len(j.Output) != 5 || j.Output[0].Process == j.Output[1].Process || j.Output[1].Process != a.c.Process.Pid {
		t.Errorf("the pages after a kill: %+v; want the first by the killed process, and the others by %d", j.Output, a.c.Process.Pid)
	}
	if status, text := a.get(t, a.page); status != http.StatusOK || !strings.Contains(text, "<title>Overview") {
		t.Errorf("the page: status %d, %.200s", status, text)
	}
	a.stop(t)
}

// inDir runs a program in a folder.
func inDir(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	c.Dir, c.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// A scaffoldJob is a job as the written app shows it.
type scaffoldJob struct {
	ID, State, Error string
	Done             int
	Output           []struct{ Number, Process int }
}

// A runningApp is a process of the written app.
type runningApp struct {
	c         *exec.Cmd
	url, page string
	rest      chan []byte // what it prints after the first line
	log       *bytes.Buffer
}

var printedURLs = regexp.MustCompile(`listening on (\S+); the page of runs: (\S+)`)

func startApp(t *testing.T, bin, dir string, args ...string) *runningApp {
	t.Helper()
	a := &runningApp{c: exec.Command(bin, append(args, "-addr", "localhost:0")...), rest: make(chan []byte, 1), log: new(bytes.Buffer)}
	a.c.Dir, a.c.Stderr = dir, a.log
	out, err := a.c.StdoutPipe()
	if err == nil {
		err = a.c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if a.c.ProcessState == nil {
			a.kill(t)
		}
	})
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	urls := printedURLs.FindStringSubmatch(line)
	go func() {
		rest, _ := io.ReadAll(r)
		a.rest <- rest
	}()
	if urls == nil {
		t.Fatalf("the app prints %q (%v)", line, err)
	}
	a.url, a.page = urls[1], urls[2]
	return a
}

func (a *runningApp) postJob(t *testing.T) string {
	t.Helper()
	res, err := http.Post(a.url+"/jobs", "application/json", strings.NewReader(`{"title":"sales","pages":5}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var j scaffoldJob
	if err := json.NewDecoder(res.Body).Decode(&j); err != nil || res.StatusCode != http.StatusAccepted || j.ID == "" {
		t.Fatalf("POST /jobs: status %d, %+v, %v", res.StatusCode, j, err)
	}
	return j.ID
}

func (a *runningApp) get(t *testing.T, url string) (int, string) {
	t.Helper()
	jar, err := cookiejar.New(nil) // the page's token becomes a cookie
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Jar: jar}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// await polls a job until it is as wanted.
func (a *runningApp) await(t *testing.T, id string, wanted func(scaffoldJob) bool) (j scaffoldJob) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(2 * time.Minute); ; {
		_, text := a.get(t, a.url+"/jobs/"+id)
		if err := json.Unmarshal([]byte(text), &j); err != nil || j.Error != "" {
			t.Fatalf("GET /jobs: %v, %s", err, text)
		}
		if wanted(j) {
			return j
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("the job stays at %s", text)
		}
	}
}

// kill kills the app, as kill -9 does.
func (a *runningApp) kill(t *testing.T) {
	t.Helper()
	if err := a.c.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-a.rest
	if err := (*exec.ExitError)(nil); !errors.As(a.c.Wait(), &err) {
		t.Error("the app ended by itself")
	}
	http.DefaultClient.CloseIdleConnections()
}

// stop asks the app to end, as systemd does.
func (a *runningApp) stop(t *testing.T) {
	t.Helper()
	if err := a.c.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	<-a.rest
	if err := a.c.Wait(); err != nil {
		t.Errorf("the app's end: %v\n%s", err, a.log)
	}
	http.DefaultClient.CloseIdleConnections()
}
