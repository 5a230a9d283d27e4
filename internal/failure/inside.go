package failure

import (
	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/text"
)

// A Language has the errors that are known beside those of registered types.
type Language struct {
	Sentinels []Sentinel
	// Describe returns the parts of an error to store; false: its type is not known.
	Describe func(err error) (Described, bool)
	// Restore is the inverse of Describe. within has the text and what the error wraps; it stands for an error that is not
	// restored. Restore gets the failure's own stack for a panic that has none.
	Restore func(k *Known, within *Stored) error
}

// A Described has the parts of an error to store.
type Described struct {
	Known
	Wraps  string // its text, without what is added around it; "": that of Within
	Within error  // what it wraps, or nil
	Parts  []Part // errors that it has by name, in place of Within
}

// A Part is an error that another has by name.
type Part struct {
	Name     string
	Err      error
	Canceled bool
}

// Inside returns the known errors in err, which fails with that stack. It calls methods of err.
func (l *Language) Inside(err error, stack string) []Known {
	return (&recorder{l, maxKnown, maxInside, stack}).inside(err, Text(err))
}

// A recorder collects what is known of the errors inside one.
type recorder struct {
	*Language
	left  int    // errors that it may still examine
	room  int    // bytes that it may still add
	stack string // of the failure
}

// inside returns what is known of err. Its text, or that of the error around it, is outer.
func (r *recorder) inside(err error, outer string) (all []Known) {
	err = apperror.Original(err)
	if r.left--; err == nil || r.left < 0 {
		return nil
	}
	for _, s := range r.Sentinels {
		if is, ok := err.(interface{ Is(error) bool }); err == s.Err || ok && is.Is(s.Err) {
			all = append(all, Known{Is: s.Name})
		}
	}
	d, ok := r.Describe(err)
	k := d.Known
	switch {
	case !ok:
		if k.Type, k.Value = registeredValue(err); len(k.Value) > r.room {
			k.Type, k.Value = "", nil
		}
		r.room -= len(k.Value)
		if k.Is = markType; k.Type == "" {
			return append(all, r.unwrapped(err, outer)...)
		}
		k.Inside = r.unwrapped(err, outer)
	case d.Parts != nil:
		return append(all, r.parts(k, d.Parts))
	}
	if k.Stack = text.Cut(k.Stack, MaxStack); k.Stack == r.stack {
		k.Stack = ""
	}
	k.Stack = r.keep(k.Stack)
	if k.Step != nil {
		if size := k.Step.Size(); size <= r.room {
			r.room -= size
		} else {
			k.Step = nil
		}
	}
	wraps := d.Wraps
	if d.Within != nil {
		wraps = Text(d.Within)
		k.Inside = r.inside(d.Within, wraps)
	}
	if wraps != outer {
		k.Text = r.keep(wraps)
	}
	return append(all, k)
}

// keep returns as much of a text as there is room for.
func (r *recorder) keep(s string) string {
	s = text.Cut(s, r.room)
	r.room -= len(s)
	return s
}

func (r *recorder) unwrapped(err error, text string) (all []Known) {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return r.inside(e.Unwrap(), text)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, r.inside(one, text)...)
		}
	}
	return all
}

func (r *recorder) parts(k Known, parts []Part) Known {
	for _, p := range parts {
		if r.left <= 0 {
			break
		}
		message := Text(p.Err)
		k.Tasks = append(k.Tasks, p.Name)
		k.Inside = append(k.Inside, Known{Is: markText, Text: r.keep(message), Canceled: p.Canceled, Inside: r.inside(p.Err, message)})
	}
	return k
}

// Errors returns the errors inside the failure. text is that of the error around them.
func (l *Language) Errors(f *Failure, text string) []error {
	return l.errorsOf(f.Inside, f.Stack, text)
}

func (l *Language) errorsOf(all []Known, stack, text string) []error {
	errs := make([]error, 0, len(all))
	for i := range all {
		errs = append(errs, l.known(&all[i], stack, text))
	}
	return errs
}

// known returns an error inside one with that text.
func (l *Language) known(k *Known, stack, text string) error {
	if err := l.Sentinel(k.Is); err != nil {
		return err
	}
	if k.Text != "" {
		text = k.Text
	}
	within := &Stored{text, l.errorsOf(k.Inside, stack, text)}
	if k.Is == markType {
		if err := readRegistered(k); err != nil {
			within.Is = append([]error{err}, within.Is...)
		}
		return within
	}
	own := *k
	if own.Stack == "" {
		own.Stack = stack
	}
	if err := l.Restore(&own, within); err != nil {
		return err
	}
	return within
}

// Sentinel returns the error of that name, or nil.
func (l *Language) Sentinel(name string) error {
	for _, s := range l.Sentinels {
		if s.Name == name {
			return s.Err
		}
	}
	return nil
}
