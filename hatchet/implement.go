package hatchet

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// The program that serves may define a workflow itself, with Client.Define. Then workers of SDKs give functions to its
// tasks: a workflow of an SDK with that name has some of the tasks, and defines nothing. So the tasks of one workflow can
// be in several languages.

// hostDefinition returns the definition of d's name if it is the host's, else nil. A name that an SDK defined first is the
// SDKs', and so is a definition that is as d: it may be of a server that ended before it had recorded that.
func (s *Server) hostDefinition(ctx context.Context, d *stint.Definition, former *workflow) (*stint.DefinitionInfo, error) {
	if former != nil && !former.Host {
		return nil, nil
	}
	hosts, err := s.c.Definition(ctx, d.Name)
	if errors.Is(err, stint.ErrNotFound) {
		return nil, nil
	}
	if err != nil || former != nil {
		return hosts, err
	}
	has, err := fieldsOf(hosts.Definition)
	if err != nil {
		return nil, err
	}
	if says, err := fieldsOf(d); err != nil || reflect.DeepEqual(has, says) {
		return nil, err
	}
	return hosts, nil
}

// newImplementation returns the record of a workflow that the host defines, with the functions that r adds to those of
// the former record. What r says of a task, which is d, must be what the definition says, or nothing.
func newImplementation(r *wire.PutWorkflowRequest, d *stint.Definition, hosts *stint.DefinitionInfo, former *workflow) (*workflow, error) {
	alone := len(hosts.Tasks) == 0
	w, err := newWorkflow(r, alone, former)
	if err != nil {
		return nil, err
	}
	w.Host, w.Version, w.Description = true, hosts.Version, hosts.Description
	if former != nil {
		for _, name := range former.Order {
			if !slices.Contains(w.Order, name) {
				w.Order = append(w.Order, name)
			}
		}
	}
	slices.Sort(w.Order)
	if alone {
		return w, agree(r.Name, d.TaskOptions, hosts.TaskOptions)
	}
	own := d.TaskOptions
	if standalone(r) {
		own = stint.TaskOptions{}
		d.Tasks = []stint.TaskSpec{{Name: r.Tasks[0].ReadableId, TaskOptions: d.TaskOptions}}
	}
	if err := agree(r.Name, own, hosts.TaskOptions); err != nil {
		return nil, err
	}
	for _, t := range d.Tasks {
		i := slices.IndexFunc(hosts.Tasks, func(h stint.TaskSpec) bool { return h.Name == t.Name })
		if i < 0 {
			return nil, invalid("workflow %.255q is defined by the server's program, and has no task %.255q", r.Name, t.Name)
		}
		if err := agree(r.Name+":"+t.Name, t, hosts.Tasks[i]); err != nil {
			return nil, err
		}
	}
	if d.OnFailure == nil {
		return w, nil
	}
	if hosts.OnFailure == nil {
		return nil, invalid("workflow %.255q is defined by the server's program, and has no on-failure task", r.Name)
	}
	return w, agree(r.Name+":"+onFailure, d.OnFailure.TaskOptions, hosts.OnFailure.TaskOptions)
}

// always are fields that SDKs set though their user does not say so: the definition's hold.
var always = []string{"queue", "priority", "timeout", "schedule_timeout", "slot_cost"}

// agree returns an error if an SDK says something of a task that the definition does not say.
func agree(name string, sdk, host any) error {
	says, err := fieldsOf(sdk)
	if err != nil {
		return err
	}
	holds, err := fieldsOf(host)
	if err != nil {
		return err
	}
	for field, v := range says {
		if !slices.Contains(always, field) && !reflect.DeepEqual(v, holds[field]) {
			return invalid("%.255q is defined by the server's program, with another value of %s: leave it out", name, field)
		}
	}
	return nil
}

// fieldsOf returns the fields of a struct that are set, as JSON has them.
func fieldsOf(v any) (fields map[string]any, err error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return fields, json.Unmarshal(body, &fields)
}
