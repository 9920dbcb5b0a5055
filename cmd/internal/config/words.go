package config

import "strings"

// splitWords takes a command apart at spaces, but for what is in quotes or
// follows a backslash. There is no shell behind it.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			inWord, escaped = true, true
		case quote != 0:
			if r == quote {
				quote = 0
				continue
			}
			word.WriteRune(r)
		case r == '\'' || r == '"':
			inWord, quote = true, r
		case strings.ContainsRune(" \t\r\n", r):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case strings.ContainsRune("|&;<>`$", r):
			return nil, wrong(`for a shell write ["/bin/sh", "-c", "exec …"]; for the character itself, put it in quotes`,
				"no shell reads the command, so %q has no meaning in it", string(r))
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if quote != 0 || escaped {
		return nil, wrong("", "the command ends within a quote")
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, wrong("", "no program")
	}
	return words, nil
}
