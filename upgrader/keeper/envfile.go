package keeper

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
)

// ReadEnvFile reads what Service.EnvFile names, as a start does.
func ReadEnvFile(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("environment file: %w", err)
	}
	env, err := parseEnvFile(data)
	if err != nil {
		return nil, fmt.Errorf("environment file %s: %w", path, err)
	}
	return env, nil
}

// parseEnvFile reads KEY=VALUE lines as systemd's EnvironmentFile= has them, but
// for line continuation: comments with # or ;, values in quotes.
func parseEnvFile(data []byte) ([]string, error) {
	var env []string
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		line = strings.TrimPrefix(line, "export ")
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" || strings.ContainsAny(key, " \t\"'") || strings.Contains(line, "\x00") {
			return nil, fmt.Errorf("line %d: not KEY=VALUE", n)
		}
		if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') {
			if value[len(value)-1] != value[0] {
				return nil, fmt.Errorf("line %d: the quote has no end", n)
			}
			value = value[1 : len(value)-1]
		}
		env = append(env, key+"="+value)
	}
	return env, sc.Err()
}
