package doctest

import (
	"encoding/xml"
	"html"
	"strings"
	"testing"
)

// docs/images/start.svg is a recording of the first program of the docs. It takes as long as the program to record it anew, so the
// test looks for the lines that the page shows.
func TestRecording(t *testing.T) {
	const path = "docs/images/start.svg"
	svg := mustRead(t, path)
	for _, b := range (page{startPage, mustRead(t, startPage)}).blocks() {
		if b.info != "text" {
			continue
		}
		for line := range strings.Lines(b.text) {
			if !strings.Contains(svg, html.EscapeString(strings.TrimSpace(line))) {
				t.Errorf("%s does not show %q: go run ./internal/doctest/record", path, line)
			}
		}
	}
	if err := xml.Unmarshal([]byte(svg), new(struct{ XMLName xml.Name })); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}
