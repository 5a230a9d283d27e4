package failure

import (
	"strings"

	"github.com/stint-dev/stint/internal/fingerprint"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// Group returns in which group of errors a run of a task counts that has failed; nil: in none.
func Group(task string, f *Failure) *store.Failure {
	if f.Kind == store.KindWorkflow {
		return nil
	}
	message := f.Message
	if f.Kind == KindPanic && !strings.HasPrefix(message, "panic: ") {
		message = "panic: " + message
	}
	id, masked := fingerprint.Of(task, message)
	sample := strings.ReplaceAll(strings.ToValidUTF8(f.Message, "\uFFFD"), "\x00", "\uFFFD") // as all databases can store it
	return &store.Failure{Group: id, Task: task, Text: masked, Sample: text.Cut(sample, text.Listed)}
}
