package doctest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var (
	linkPattern   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codePattern   = regexp.MustCompile("`[^`]*`")
	headingMark   = regexp.MustCompile(`^#{1,6} +`)
	linkInHeading = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`)
)

// Each relative link of a document leads to a file that exists, and to a heading of it.
func TestLinks(t *testing.T) {
	all := mustPages(t)
	anchors := map[string]map[string]bool{}
	for _, p := range all {
		anchors[p.path] = anchorsOf(p)
	}
	links := 0
	for _, p := range all {
		for i, line := range p.prose() {
			for _, m := range linkPattern.FindAllStringSubmatch(codePattern.ReplaceAllString(line, "``"), -1) {
				if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
					continue
				}
				links++
				if problem := checkLink(p, m[1], anchors); problem != "" {
					t.Errorf("%s:%d: %s: %s", p.path, i+1, m[1], problem)
				}
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links: the pattern does not find them", links)
	}
}

// checkLink returns what is wrong with a link of p, or nothing.
func checkLink(p page, link string, anchors map[string]map[string]bool) string {
	file, anchor, hasAnchor := strings.Cut(link, "#")
	target := p.path
	if file != "" {
		target = path.Join(path.Dir(p.path), file)
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(target))); err != nil || strings.HasPrefix(target, "..") {
		return "there is no such file"
	}
	if hasAnchor && anchors[target] != nil && !anchors[target][anchor] {
		return "there is no such heading"
	}
	return ""
}

// anchorsOf returns the anchors of a page's headings, as GitHub and mdBook make them.
func anchorsOf(p page) map[string]bool {
	anchors, count := map[string]bool{}, map[string]int{}
	for _, line := range p.prose() {
		if !headingMark.MatchString(line) {
			continue
		}
		text := linkInHeading.ReplaceAllString(headingMark.ReplaceAllString(line, ""), "$1")
		var slug strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(text)) {
			switch {
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				slug.WriteRune(r)
			case r == ' ':
				slug.WriteByte('-')
			}
		}
		name := slug.String()
		if n := count[name]; n > 0 {
			anchors[name+"-"+strconv.Itoa(n)] = true
		}
		count[name]++
		anchors[name] = true
	}
	return anchors
}

func TestBrokenLinksAreFound(t *testing.T) {
	p := page{path: "docs/README.md", text: "# A heading, with `code`\n"}
	anchors := map[string]map[string]bool{"docs/README.md": anchorsOf(p), "README.md": {}}
	for link, broken := range map[string]bool{"#a-heading-with-code": false, "#other": true, "../README.md": false, "../README.md#none": true,
		"none.md": true, "../../outside.md": true} {
		if got := checkLink(p, link, anchors) != ""; got != broken {
			t.Errorf("%s: broken is %v, want %v", link, got, broken)
		}
	}
}

func mustPages(t *testing.T) []page {
	t.Helper()
	all, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
