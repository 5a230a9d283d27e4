package hatchet_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
)

// served is what docs/hatchet.md shows, for the compiler.
func served(ctx context.Context, client *stint.Client) (string, error) {
	s, err := hatchet.NewServer(client, hatchet.Options{})
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:7077")
	if err != nil {
		return "", err
	}
	go s.Serve(ctx, l)      // ends with ctx; close the client after it
	token, err := s.Token() // HATCHET_CLIENT_TOKEN
	return token, err
}

// polyglot is what docs/hatchet.md shows of a workflow in several languages.
func polyglot(ctx context.Context, client *stint.Client, measure stint.Handler) (*stint.Worker, *stint.Run[json.RawMessage], error) {
	_, err := client.Define(ctx, stint.Definition{Name: "sizes", Tasks: []stint.TaskSpec{
		{Name: "measure"},
		{Name: "statistics", Parents: []string{"measure"}, TaskOptions: stint.TaskOptions{Retries: 3}},
		{Name: "report", Parents: []string{"statistics"}},
	}})
	if err != nil {
		return nil, nil, err
	}
	worker, err := client.NewWorker(stint.WithTasks("sizes:measure"), stint.WithHandler(measure))
	if err != nil {
		return nil, nil, err
	}
	run, err := client.EnqueueJSON(ctx, "sizes", json.RawMessage(`{"dir":"."}`))
	return worker, run, err
}

// What the docs show compiles.
func TestSnippets(t *testing.T) {
	_, _ = served, polyglot
	own, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/hatchet.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for i, block := range strings.Split(string(doc), "```go\n") {
		if i == 0 {
			continue
		}
		blocks++
		code, _, _ := strings.Cut(block, "```")
		for line := range strings.Lines(code) {
			if line = strings.TrimSpace(line); line != "// ..." && !strings.Contains(string(own), line) {
				t.Errorf("docs/hatchet.md: %q is not in example_test.go", line)
			}
		}
	}
	if blocks == 0 {
		t.Error("docs/hatchet.md shows no Go")
	}
}
