package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stint-dev/stint"
)

// A listing is the files of a folder.
type listing struct {
	Texts  []string `json:"texts"`
	Images []string `json:"images"`
}

type pipeline struct {
	*stint.Workflow[string]
	report *stint.Node[string]
}

// define defines the graph. Its input is the folder.
func define(c *stint.Client) pipeline {
	file := stint.NewTask(c, "count-file", countFile, stint.WithRetries(1))
	w := stint.NewWorkflow[string](c, "pipeline", stint.WithTaskDefaults(stint.WithTimeout(time.Minute)))

	list := stint.AddTask(w, "list", listFolder)
	count := stint.AddTask(w, "count", func(ctx context.Context, dir string) (map[string]int, error) {
		found, err := list.Output(ctx)
		if err != nil {
			return nil, err
		}
		return countAll(ctx, file, found.Texts)
	}, stint.WithParents(list))
	rank := stint.AddTask(w, "rank", func(ctx context.Context, _ string) ([]string, error) {
		words, err := count.Output(ctx)
		if err != nil {
			return nil, err
		}
		top := slices.SortedFunc(maps.Keys(words), func(a, b string) int {
			return cmp.Or(cmp.Compare(words[b], words[a]), cmp.Compare(a, b))
		})
		return top[:min(10, len(top))], nil
	}, stint.WithParents(count))
	sizes := stint.AddTask(w, "sizes", func(ctx context.Context, _ string) (int64, error) {
		found, err := list.Output(ctx)
		return totalSize(append(found.Texts, found.Images...)), err
	}, stint.WithParents(list))
	images := stint.AddTask(w, "images", func(ctx context.Context, _ string) (int, error) {
		found, err := list.Output(ctx)
		return len(found.Images), err
	}, stint.WithParents(list), stint.WithSkipIf(stint.ParentOutput(list, func(l listing) bool { return len(l.Images) == 0 })))
	stint.AddTask(w, "publish", publish, stint.WithParents(list), stint.WithRetries(3))

	report := stint.AddTask(w, "report", func(ctx context.Context, dir string) (string, error) {
		return writeReport(ctx, dir, list, rank, sizes, images)
	}, stint.WithParents(rank, sizes, images))
	w.OnFailure(func(ctx context.Context, dir string, err *stint.WorkflowError) error {
		stint.Logger(ctx).Error("the index was not made", "folder", dir, "err", err)
		return nil
	})
	return pipeline{w, report}
}

func listFolder(_ context.Context, dir string) (found listing, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != dir {
			return filepath.SkipDir
		}
		switch filepath.Ext(path) {
		case ".txt", ".md", ".go":
			found.Texts = append(found.Texts, path)
		case ".png", ".jpg", ".svg":
			found.Images = append(found.Images, path)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return found, stint.NonRetryable(err)
	}
	return found, err
}

// countFile counts the words of a file. It is the child task of the fan-out.
func countFile(_ context.Context, path string) (map[string]int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	words := map[string]int{}
	for _, w := range bytes.FieldsFunc(bytes.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		if len(w) > 3 {
			words[string(w)]++
		}
	}
	return words, nil
}

// countAll starts a child for each file and adds up the results. The key of a file lets a
// repeated attempt find the children of the last one.
func countAll(ctx context.Context, file *stint.Task[string, map[string]int], paths []string) (map[string]int, error) {
	info, _ := stint.Info(ctx)
	var runs []*stint.Run[map[string]int]
	for _, path := range paths {
		run, err := file.Enqueue(ctx, path, stint.WithIdempotencyKey(info.ParentID+path, time.Hour))
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	words := map[string]int{}
	for i, run := range runs {
		some, err := run.Wait(ctx)
		if err != nil {
			return nil, err
		}
		for w, n := range some {
			words[w] += n
		}
		stint.Progress(ctx, int64(i+1), int64(len(runs)))
	}
	return words, nil
}

func totalSize(paths []string) (total int64) {
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil {
			total += info.Size()
		}
	}
	return total
}

// publish stands for a service that is down at first.
func publish(ctx context.Context, dir string) (string, error) {
	if info, _ := stint.Info(ctx); info.Attempt < 3 {
		return "", stint.RetryAfter(100*time.Millisecond, errors.New("the index server does not answer"))
	}
	return "published " + dir, nil
}

func writeReport(ctx context.Context, dir string, list *stint.Node[listing], rank *stint.Node[[]string],
	sizes *stint.Node[int64], images *stint.Node[int]) (string, error) {
	found, err := list.Output(ctx)
	if err != nil {
		return "", err
	}
	top, err := rank.Output(ctx)
	if err != nil {
		return "", err
	}
	size, err := sizes.Output(ctx)
	if err != nil {
		return "", err
	}
	pictures, err := images.Output(ctx)
	if err != nil && !errors.Is(err, stint.ErrSkipped) {
		return "", err
	}
	return fmt.Sprintf("%s: %d text files, %d pictures, %d bytes; most used words: %s\n",
		dir, len(found.Texts), pictures, size, strings.Join(top, ", ")), nil
}
