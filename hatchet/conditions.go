package hatchet

import (
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// addConditions adds the conditions of a workflow's task. Members of an or-group are joined by "any", groups by "all".
func addConditions(t *stint.TaskSpec, d *wire.TaskDefinition) error {
	groups := map[wire.ConditionAction]*orGroups{}
	add := func(b *wire.BaseCondition, c stint.ConditionSpec) {
		if groups[b.GetAction()] == nil {
			groups[b.GetAction()] = &orGroups{members: map[string][]stint.ConditionSpec{}}
		}
		c.Name = b.GetReadableDataKey()
		groups[b.GetAction()].add(b.GetOrGroupId(), c)
	}
	for _, c := range d.Conditions.GetParentOverrideConditions() {
		add(c.Base, stint.ConditionSpec{Parent: &stint.ParentSpec{Name: c.ParentReadableId, Output: c.GetBase().GetExpression()}})
	}
	for _, c := range d.Conditions.GetSleepConditions() {
		sleep, err := time.ParseDuration(c.SleepFor)
		if err != nil || sleep < 0 {
			return invalid("task %.255q: sleep_for is %.100q: want a time such as 15s", d.ReadableId, c.SleepFor)
		}
		add(c.Base, stint.ConditionSpec{Sleep: stint.Duration(max(sleep, 1))})
	}
	for _, c := range d.Conditions.GetUserEventConditions() {
		event := &stint.EventSpec{Key: c.UserEventKey, Filter: c.GetBase().GetExpression(), Scope: c.GetEventScope(), FromNow: true}
		if c.ConsiderEventsSince != nil {
			event.FromNow, event.Since = false, c.ConsiderEventsSince.AsTime()
		}
		add(c.Base, stint.ConditionSpec{Event: event})
	}
	for action, g := range groups {
		switch action {
		case wire.ConditionAction_CONDITION_QUEUE:
			t.WaitFor = g.all()
		case wire.ConditionAction_CONDITION_SKIP:
			t.SkipIf = g.all()
		case wire.ConditionAction_CONDITION_CANCEL:
			t.CancelIf = g.all()
		default:
			return invalid("task %.255q: a condition has action %v: want QUEUE, SKIP or CANCEL", d.ReadableId, action)
		}
	}
	return nil
}

// orGroups are conditions by the or-group that they are in, in the order in which they came.
type orGroups struct {
	order   []string
	members map[string][]stint.ConditionSpec
}

// add adds a condition; without a group it is one by itself.
func (g *orGroups) add(group string, c stint.ConditionSpec) {
	if group == "" || group == noGroup {
		group = "alone " + itoa(len(g.order))
	}
	if g.members[group] == nil {
		g.order = append(g.order, group)
	}
	g.members[group] = append(g.members[group], c)
}

// noGroup is the UUID by which some SDKs say that a condition has no group.
const noGroup = "00000000-0000-0000-0000-000000000000"

// all returns the condition that every group has a member which is true.
func (g *orGroups) all() *stint.ConditionSpec {
	var all []stint.ConditionSpec
	for _, id := range g.order {
		if m := g.members[id]; len(m) == 1 {
			all = append(all, m[0])
		} else {
			all = append(all, stint.ConditionSpec{AnyOf: m})
		}
	}
	if len(all) == 1 {
		return &all[0]
	}
	return &stint.ConditionSpec{AllOf: all}
}
