package ui

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// queryKeys are the keys of the query field that are fields of a filter. Any other key is one of the runs'
// metadata; metadata:KEY=VALUE is the form for a key that is also one of these.
var queryKeys = []string{"state", "task", "queue", "error", "id", "parent", "event", "worker", "metadata"}

// parseQuery reads the text of the query field, such as
//
//	state:failed,canceled task:charge tenant:acme error:"connection refused"
//
// as the fields of a filter: words of a key, a colon and a value, or several values with commas between
// them. A value with spaces, commas or quotes is quoted as in Go. A word without a key is an ID if it looks
// like one, else a part of the error. top is the word for runs that are nobody's children.
func parseQuery(text string) (url.Values, error) {
	q := url.Values{}
	for rest := strings.Trim(text, " \t\r\n"); rest != ""; rest = strings.TrimLeft(rest, " \t\r\n") {
		key, values, after, err := nextWord(rest)
		if err != nil {
			return nil, err
		}
		rest = after
		switch {
		case key == "" && values[0] == "top":
			q.Set("top", "1")
			continue
		case key == "" && uuid.Validate(values[0]) == nil:
			key = "id"
		case key == "" && q.Has("error"):
			values[0] = q.Get("error") + " " + values[0] // words beside each other are one text
			fallthrough
		case key == "":
			key = "error"
			q.Del(key)
		}
		if strings.HasPrefix(key, "-") {
			return nil, fmt.Errorf("%s: a query cannot leave runs out: name those that it is to show", key)
		}
		if !slices.Contains(queryKeys, key) {
			if one := strings.TrimSuffix(key, "s"); slices.Contains(queryKeys, one) {
				return nil, fmt.Errorf("%s: write %s:%s; for a key of metadata write metadata:%s=%s",
					key, one, values[0], key, values[0])
			}
			for i := range values {
				values[i] = pairOf(key, values[i])
			}
			key = "metadata"
		}
		q[key] = append(q[key], values...)
	}
	return q, nil
}

// nextWord returns the key, or "", and the values of the first word of a text, and what follows it.
func nextWord(text string) (key string, values []string, rest string, err error) {
	if end := strings.IndexAny(text, " \t\r\n\":"); end > 0 && text[end] == ':' {
		key, text = text[:end], text[end+1:]
	}
	for {
		var value string
		isQuoted := strings.HasPrefix(text, `"`)
		if isQuoted {
			quoted, err := strconv.QuotedPrefix(text)
			if err != nil {
				return "", nil, "", fmt.Errorf("%s: the quoted text has no end: want \" after it", text)
			}
			if value, err = strconv.Unquote(quoted); err != nil {
				return "", nil, "", fmt.Errorf("%s: %w", quoted, err)
			}
			text = text[len(quoted):]
		} else {
			ends := " \t\r\n"
			if key != "" {
				ends += "," // another value of the key follows
			}
			end := strings.IndexAny(text, ends)
			if end < 0 {
				end = len(text)
			}
			value, text = text[:end], text[end:]
		}
		if value == "" && !isQuoted {
			return "", nil, "", fmt.Errorf("%s: there is no value after the colon", key)
		}
		values = append(values, value)
		if key == "" || !strings.HasPrefix(text, ",") {
			return key, values, text, nil
		}
		text = text[1:]
	}
}

// formatQuery returns a filter as parseQuery reads it. Fields that no query has are left out.
func formatQuery(q url.Values) string {
	var words []string
	for _, key := range queryKeys {
		values := slices.DeleteFunc(slices.Clone(q[key]), func(v string) bool { return v == "" })
		if len(values) == 0 {
			continue
		}
		if key != "metadata" {
			for i := range values {
				values[i] = quoteValue(values[i])
			}
			words = append(words, key+":"+strings.Join(values, ","))
			continue
		}
		for _, pair := range values {
			k, v, ok := strings.Cut(pair, "=")
			if ok && isMetadataKey(k) {
				words = append(words, k+":"+quoteValue(v))
			} else {
				words = append(words, "metadata:"+quoteValue(pair))
			}
		}
	}
	if q.Get("top") != "" {
		words = append(words, "top")
	}
	return strings.Join(words, " ")
}

// isMetadataKey reports whether a key of metadata can stand before the colon.
func isMetadataKey(k string) bool {
	return k != "" && strconv.Quote(k) == `"`+k+`"` && !strings.ContainsAny(k, " :") && !strings.ContainsAny(k[:1], "-{") &&
		!slices.Contains(queryKeys, strings.TrimSuffix(k, "s"))
}

// quoteValue quotes a value that would not be read as one.
func quoteValue(v string) string {
	if v == "" || strings.ContainsAny(v, " \t\n,\"\\") || strconv.Quote(v) != `"`+v+`"` {
		return strconv.Quote(v)
	}
	return v
}
