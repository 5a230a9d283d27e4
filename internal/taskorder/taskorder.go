// Package taskorder puts the tasks of a workflow in an order in which they can be defined.
package taskorder

import (
	"fmt"
	"slices"
	"strings"
)

// A Task has a name, and the names of its parents.
type Task struct {
	Name    string
	Parents []string
}

// ParentsFirst returns the places of the tasks, each after those of its parents. The error names the task that has another
// one's name, an unknown parent, or itself among those that come before it.
func ParentsFirst(tasks []Task) ([]int, error) {
	w := walk{tasks: tasks, places: map[string]int{}, marks: make([]mark, len(tasks))}
	for i, t := range tasks {
		if _, twice := w.places[t.Name]; twice {
			return nil, fmt.Errorf("there are two %q", t.Name)
		}
		w.places[t.Name] = i
	}
	for i := range tasks {
		if err := w.visit(i); err != nil {
			return nil, err
		}
	}
	return w.order, nil
}

type mark uint8

const (
	open mark = iota + 1 // its parents are being visited
	done
)

// A walk visits tasks, parents first.
type walk struct {
	tasks  []Task
	places map[string]int // by name
	marks  []mark
	path   []string // the open tasks
	order  []int    // those that are done
}

func (w *walk) visit(i int) error {
	t := &w.tasks[i]
	switch w.marks[i] {
	case open:
		cycle := append(w.path[slices.Index(w.path, t.Name):], t.Name)
		return fmt.Errorf("%q: parents: a cycle: %s", t.Name, strings.Join(cycle, ", "))
	case done:
		return nil
	}
	w.marks[i] = open
	w.path = append(w.path, t.Name)
	for _, p := range t.Parents {
		at, ok := w.places[p]
		if !ok {
			return fmt.Errorf("%q: parents: the workflow has no task %q", t.Name, p)
		}
		if err := w.visit(at); err != nil {
			return err
		}
	}
	w.marks[i] = done
	w.path = w.path[:len(w.path)-1]
	w.order = append(w.order, i)
	return nil
}
