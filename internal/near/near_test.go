package near

import (
	"slices"
	"testing"
)

func TestNames(t *testing.T) {
	known := []string{"default", "send-mail", "send-mails", "Send-Mail-2", "charge", "a", "gpu", "résumé"}
	for _, tt := range []struct {
		name string
		want []string
	}{
		{"defualt", []string{"default"}},
		{"deflt", []string{"default"}},
		{"send-mial", []string{"send-mail", "send-mails", "Send-Mail-2"}},
		{"SEND-MAIL", []string{"send-mail", "send-mails", "Send-Mail-2"}},
		{"char", []string{"charge"}},
		{"gup", []string{"gpu"}},
		{"resume", []string{"résumé"}},
		{"zzzzzz", nil},
		{"", []string{"a"}},
	} {
		if got := Names(tt.name, known); !slices.Equal(got, tt.want) && len(got)+len(tt.want) > 0 {
			t.Errorf("Names(%q) = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}, {"über", "uber", 1}} {
		if got := distance([]rune(tt.a), []rune(tt.b)); got != tt.want {
			t.Errorf("%q to %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := distance([]rune(tt.b), []rune(tt.a)); got != tt.want {
			t.Errorf("%q to %q: %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}
