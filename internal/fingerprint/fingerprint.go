// Package fingerprint tells which errors are the same: those of one task whose first lines differ only in what
// varies from run to run, such as numbers, IDs, addresses and quoted texts.
package fingerprint

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxLine is the maximum size of what is read of a line, in bytes.
	maxLine = 1 << 10
	// MaxText is the maximum size of a masked text, in bytes.
	MaxText = 256
)

// What stands in a masked text for what varies.
const (
	aNumber   = "<n>"
	anID      = "<id>"
	aText     = "<text>"
	anAddress = "<ip>"
	anEmail   = "<email>"
	aDuration = "<duration>"
	aTime     = "<time>"
)

// Of returns the ID of the group to which an error of a task belongs, and the error's masked first line. The ID is
// never 0.
func Of(task, message string) (id int64, text string) {
	text = Mask(message)
	sum := sha256.Sum256([]byte(task + "\x00" + text))
	if id = int64(binary.BigEndian.Uint64(sum[:])); id == 0 {
		id = 1
	}
	return id, text
}

// Mask returns the first line of a text that is not blank, with what varies masked and spaces made single. It has at
// most MaxText bytes.
func Mask(message string) string {
	m := masker{rest: firstLine(message)}
	for m.rest != "" && m.b.Len() < MaxText {
		m.next()
	}
	return cut(strings.TrimSpace(m.b.String()), MaxText)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimLeft(s, " \t\r\n"), "\n")
	s = strings.ToValidUTF8(strings.TrimSpace(cut(s, maxLine)), "\uFFFD")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// cut returns the beginning of s, cut between two characters.
func cut(s string, size int) string {
	if len(s) <= size {
		return s
	}
	for size > 0 && !utf8.RuneStart(s[size]) {
		size--
	}
	return s[:size]
}

// A masker masks a line from left to right.
type masker struct {
	b     strings.Builder
	rest  string
	word  string // the last word, to tell a status from a count
	comma bool   // only what may separate the numbers of a list has come since the last number
}

// next masks what stands next in the line: a quoted text, a word, or the characters between words.
func (m *masker) next() {
	if end := quoted(m.rest, m.afterLetter()); end > 0 {
		m.put(m.rest[:1] + aText + m.rest[end-1:end])
		m.rest = m.rest[end:]
		return
	}
	end := strings.IndexFunc(m.rest, separates)
	switch {
	case end < 0:
		end = len(m.rest)
	case end == 0:
		m.separator()
		return
	}
	if strings.Contains(m.rest[:end], "://") { // of its query too
		if end = strings.IndexAny(m.rest, " \t\"'`<>)"); end < 0 {
			end = len(m.rest)
		}
	}
	word := m.rest[:end]
	m.rest = m.rest[end:]
	tail := word[len(strings.TrimRight(word, ".:!?")):]
	word = word[:len(word)-len(tail)]
	masked := word
	if !m.isCode(word) {
		masked = maskWord(word)
	}
	if masked == aNumber && m.comma { // one more of a list, however long that is
		m.trimList()
	}
	m.put(masked + tail)
	m.word, m.comma = strings.ToLower(word), masked == aNumber && tail == ""
}

// separator copies a character between words. Spaces become one.
func (m *masker) separator() {
	_, size := utf8.DecodeRuneInString(m.rest)
	c := m.rest[:size]
	m.rest = m.rest[size:]
	if strings.TrimSpace(c) == "" {
		if strings.HasSuffix(m.b.String(), " ") {
			return
		}
		c = " "
	}
	list := m.comma && (c == " " || c == ",")
	m.put(c)
	m.comma = list
}

// trimList removes what separates a number from the one before it, and that one.
func (m *masker) trimList() {
	s := strings.TrimSuffix(strings.TrimRight(m.b.String(), " ,"), aNumber)
	m.b.Reset()
	m.b.WriteString(s)
}

func (m *masker) put(s string) {
	m.b.WriteString(s)
	m.comma = false
}

func (m *masker) afterLetter() bool {
	s := m.b.String()
	return s != "" && isAlnum(s[len(s)-1])
}

// codes are the words before a number that says what kind of error it is.
var codes = map[string]bool{"http": true, "status": true, "code": true, "errno": true, "smtp": true, "sqlstate": true, "error": true,
	"signal": true, "statuscode": true, "status_code": true, "http/1.1": true, "http/2": true, "http/2.0": true}

// isCode reports whether a word is a short number or code that tells errors apart, such as that of an HTTP status.
func (m *masker) isCode(word string) bool {
	return len(word) <= 5 && codes[m.word]
}

func separates(r rune) bool {
	return r <= ' ' || strings.ContainsRune("\"`'()[]{}<>,;=|", r) || r == '\u00a0'
}

// quoted returns the length of a quoted text at the beginning of s, with its quotes; 0: there is none. A single quote
// after a letter is an apostrophe.
func quoted(s string, afterLetter bool) int {
	q := s[0]
	if q != '"' && q != '`' && (q != '\'' || afterLetter) {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && q != '`':
			i++
		case s[i] == q && (q != '\'' || i+1 == len(s) || !isAlnum(s[i+1])):
			return i + 1
		}
	}
	return 0
}

// maskWord masks a word that has no spaces, quotes and brackets.
func maskWord(word string) string {
	if !strings.ContainsAny(word, "0123456789@") {
		return word
	}
	if _, err := netip.ParseAddr(word); err == nil {
		return anAddress
	}
	if host, _, ok := cutLast(word, ":"); ok {
		if _, err := netip.ParseAddr(host); err == nil {
			return anAddress
		}
	}
	if at := strings.IndexByte(word, '@'); at > 0 && strings.Contains(word[at:], ".") && !strings.Contains(word, "/") {
		return anEmail
	}
	if _, err := time.ParseDuration(word); err == nil && !isDigit(word[len(word)-1]) {
		return aDuration
	}
	if _, err := time.Parse(time.RFC3339, word); err == nil {
		return aTime
	}
	if scheme, rest, ok := strings.Cut(word, "://"); ok {
		path, query, has := strings.Cut(rest, "?")
		if has && query != "" {
			path += "?" + aText
		}
		return scheme + "://" + maskParts(path)
	}
	return maskParts(word)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// maskParts masks those of a word's parts, between punctuation, that have digits.
func maskParts(word string) string {
	var b strings.Builder
	for word != "" {
		if n := idLength(word); n > 0 {
			b.WriteString(anID)
			word = word[n:]
			continue
		}
		n := 0
		for n < len(word) && isAlnum(word[n]) {
			n++
		}
		if n == 0 {
			b.WriteByte(word[0])
			word = word[1:]
			continue
		}
		b.WriteString(maskPart(word[:n]))
		word = word[n:]
	}
	return foldNumbers(b.String())
}

// idLength returns the length of a UUID at the beginning of s; 0: there is none.
func idLength(s string) int {
	const form = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh"
	if len(s) < len(form) {
		return 0
	}
	for i := range len(form) {
		if (form[i] == '-') != (s[i] == '-') || form[i] == 'h' && !isHex(s[i]) {
			return 0
		}
	}
	if len(s) > len(form) && isAlnum(s[len(form)]) {
		return 0
	}
	return len(form)
}

// maskPart masks a part of letters and digits. Digits at an end of letters are a number beside a name; those between
// letters, many of them, and hexadecimal ones, are an ID.
func maskPart(part string) string {
	digits, changes, hex := 0, 0, true
	for i := range len(part) {
		if isDigit(part[i]) {
			digits++
		}
		if i > 0 && isDigit(part[i]) != isDigit(part[i-1]) {
			changes++
		}
		hex = hex && isHex(part[i])
	}
	switch {
	case digits == 0:
		return part
	case digits == len(part):
		return aNumber
	case len(part) > 2 && strings.EqualFold(part[:2], "0x"), changes > 1, hex && len(part) >= 8, len(part) >= 20:
		return anID
	}
	if isDigit(part[0]) {
		return aNumber + strings.TrimLeft(part, "0123456789")
	}
	return strings.TrimRight(part, "0123456789") + aNumber
}

// foldNumbers makes the parts of one number one, such as those of 1.5, -3 and 10:30:00.
func foldNumbers(s string) string {
	for _, sep := range []string{".", ":", "-"} {
		for strings.Contains(s, aNumber+sep+aNumber) {
			s = strings.ReplaceAll(s, aNumber+sep+aNumber, aNumber)
		}
	}
	if rest := strings.TrimLeft(s, "+-"); rest == aNumber {
		return rest
	}
	return s
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isHex(c byte) bool   { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }
func isAlnum(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= utf8.RuneSelf
}
