package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

//go:embed worker.py
var workerPython []byte

//go:embed requirements.txt
var requirements []byte

//go:embed worker.ts
var workerTypeScript []byte

//go:embed package.json
var packages []byte

// A program is a worker in another language.
type program struct {
	language, dir string
	command       []string
}

// install returns the workers in other languages, with the packages that they need in the user's cache folder.
func install(ctx context.Context, log io.Writer) ([]program, error) {
	python, err := tools()
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(slices.Concat(requirements, packages))
	dir := filepath.Join(cache, "stint-polyglot", hex.EncodeToString(sum[:8]))
	bin := filepath.Join(dir, "venv", "bin", "python")
	if runtime.GOOS == "windows" {
		bin = filepath.Join(dir, "venv", "Scripts", "python.exe")
	}
	programs := []program{{"Python", dir, []string{bin, "worker.py"}},
		{"TypeScript", dir, []string{"node", "--import", "tsx", "worker.ts"}}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{"worker.py": workerPython, "requirements.txt": requirements, "worker.ts": workerTypeScript,
		"package.json": packages} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return nil, err
		}
	}
	complete := filepath.Join(dir, "complete")
	if _, err := os.Stat(complete); err == nil {
		return programs, nil
	}
	fmt.Fprintln(log, "Installing the SDKs in", dir)
	for _, command := range [][]string{
		{python, "-m", "venv", "venv"},
		{bin, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", "requirements.txt"},
		{"npm", "install", "--silent", "--no-audit", "--no-fund"},
	} {
		c := exec.CommandContext(ctx, command[0], command[1:]...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
		}
	}
	return programs, os.WriteFile(complete, nil, 0o644)
}

// tools returns the name of Python's command, or an error that names what is missing.
func tools() (python string, err error) {
	python = "python3"
	if _, err := exec.LookPath(python); err != nil && runtime.GOOS == "windows" {
		python = "python"
	}
	var missing []string
	for _, t := range []struct{ command, check, wants string }{
		{python, "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))", "Python 3.10 or later, with venv"},
		{"node", "process.exit(process.versions.node.split('.')[0] < 20 ? 1 : 0)", "Node.js 20 or later"},
		{"npm", "", "npm"},
	} {
		_, err := exec.LookPath(t.command)
		if err == nil && t.check != "" {
			flag := "-c"
			if t.command == "node" {
				flag = "-e"
			}
			err = exec.Command(t.command, flag, t.check).Run()
		}
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s (command %s)", t.wants, t.command))
		}
	}
	if len(missing) > 0 {
		return "", errors.New("this example has workers in Python and TypeScript; missing here: " + strings.Join(missing, ", "))
	}
	return python, nil
}

// run runs the worker until ctx is done. If it ends by itself, the error has what it printed.
func (p *program) run(ctx context.Context, token string, verbose bool) error {
	c := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
	c.Dir = p.dir
	c.Env = append(os.Environ(), "HATCHET_CLIENT_TOKEN="+token, "HATCHET_CLIENT_TLS_STRATEGY=none")
	var printed bytes.Buffer
	c.Stdout = &printed
	if verbose {
		c.Stdout = os.Stderr
	}
	c.Stderr = c.Stdout
	c.Cancel = func() error {
		if runtime.GOOS == "windows" {
			return c.Process.Kill()
		}
		return c.Process.Signal(os.Interrupt)
	}
	c.WaitDelay = 20 * time.Second
	err := c.Run()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("it has ended: %w\n%s", err, printed.String())
}
