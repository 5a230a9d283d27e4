package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// completed returns what the command says may stand after the words.
func completed(t *testing.T, words ...string) (all []string) {
	t.Helper()
	for line := range strings.Lines(must(t, "", append(words, "--generate-shell-completion")...) + "\n") {
		if word, _, _ := strings.Cut(line, "\t"); strings.TrimSpace(word) != "" {
			all = append(all, strings.TrimSpace(word))
		}
	}
	return all
}

func TestCompletion(t *testing.T) {
	path := worked(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ some, none, words []string }{
		{[]string{"runs", "cancel", "help", "version", "completion"}, []string{"-state"}, nil},
		{[]string{"-state", "-since", "-db"}, []string{"runs", "-all"}, []string{"runs", path, "-"}},
		{[]string{"--state"}, []string{"--since", "-state"}, []string{"runs", path, "--stat"}},
		{[]string{"failed", "succeeded"}, []string{"steps"}, []string{"runs", path, "-state"}},
		{[]string{"steps"}, []string{"default"}, []string{"runs", path, "-task"}},
		{[]string{"default"}, []string{"steps"}, []string{"runs", "-db", path, "-queue"}},
		{[]string{"table", "json", "ndjson"}, nil, []string{"runs", "-o"}},
		{[]string{"default"}, nil, []string{"pause", path}},
		{[]string{"steps"}, nil, []string{"enqueue", path}},
		{[]string{"pause", "resume", "trigger", "delete"}, nil, []string{"cron", path}},
		{[]string{"steps:@daily"}, nil, []string{"cron", path, "pause"}},
		{[]string{"bash", "zsh", "fish"}, nil, []string{"completion"}},
		{[]string{"cancel"}, nil, []string{"help"}},
		{nil, []string{"runs", "steps"}, []string{"enqueue"}}, // the names of files are the shell's
		{nil, []string{"steps"}, []string{"cancel", path + "x", "-task"}},
	} {
		got := completed(t, tt.words...)
		for _, w := range tt.some {
			if !slices.Contains(got, w) {
				t.Errorf("after %q there is no %s: %q", tt.words, w, got)
			}
		}
		for _, w := range tt.none {
			if slices.Contains(got, w) {
				t.Errorf("after %q there is %s: %q", tt.words, w, got)
			}
		}
	}
	if after, err := os.ReadFile(path); err != nil || !slices.Equal(after, before) {
		t.Errorf("completion has changed the file (%v)", err)
	}
}

// The scripts complete in their shells, and evaluate nothing.
func TestCompletionScripts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the program that completes is a script of a shell")
	}
	dir, path := t.TempDir(), worked(t)
	if err := os.WriteFile(filepath.Join(dir, "stint"), []byte("#!/bin/sh\nexec '"+built(t)+"' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv(fileVariable, path)
	for _, shell := range shells {
		must(t, "stint", "completion", shell)
	}
	run := func(shell, script string) string {
		t.Helper()
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("%s is not installed", shell)
			return ""
		}
		out, err := exec.Command(shell, "-c", script).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
		return string(out)
	}
	const bash = `source <(stint completion bash)
complete_words() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _stint; echo "$*: ${COMPREPLY[*]}"; }
complete_words stint canc
complete_words stint runs -stat
complete_words stint runs -state fai
complete_words stint runs -task ''
complete_words stint runs '$(touch evaluated)' ''
[[ ! -e evaluated ]] && echo nothing was evaluated
`
	if got := run("bash", bash); got != "" {
		for _, want := range []string{"canc: cancel\n", "-stat: -state\n", "-state fai: failed\n", "-task : steps\n", "nothing was evaluated"} {
			if !strings.Contains(got, want) {
				t.Errorf("bash prints\n%s\nwant %q", got, want)
			}
		}
	}
	const fish = "stint completion fish | source\ncomplete -C 'stint canc'\ncomplete -C 'stint runs -stat'\ncomplete -C 'stint runs -state fai'\n"
	if got := run("fish", fish); got != "" {
		for _, want := range []string{"cancel\t", "-state\t", "failed"} {
			if !strings.Contains(got, want) {
				t.Errorf("fish prints\n%s\nwant %q", got, want)
			}
		}
	}
	const zsh = `autoload -Uz compinit; compinit -u -D; source <(stint completion zsh)
[[ ${_comps[stint]} == _stint ]] || exit 1
_describe() { print -rl -- "$words:" "${(@P)2}"; }
_files() { print files; }
complete_words() { words=("$@") CURRENT=$#; _stint; }
complete_words stint canc
complete_words stint runs -stat
complete_words stint runs -state fai
complete_words stint cron pause ''
complete_words stint backup ''
`
	if got := run("zsh", zsh); got != "" {
		for _, want := range []string{"\ncancel:cancel runs", "\n-state:only runs in", "\nfailed:\n", "\nsteps\\:@daily:\n", "\nfiles\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("zsh prints\n%s\nwant %q", got, want)
			}
		}
	}
}
