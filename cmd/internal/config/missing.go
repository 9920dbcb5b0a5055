package config

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// Missing says what services need at their start and isn't there yet, or isn't right.
func Missing(s *keeper.Config) []string {
	var all []string
	for _, service := range s.Services {
		say := func(format string, args ...any) {
			all = append(all, service.Name+": "+fmt.Sprintf(format, args...))
		}
		program := service.Command[0]
		if strings.Contains(program, "/") && !filepath.IsAbs(program) {
			program = filepath.Join(service.Directory, program)
		}
		if _, err := exec.LookPath(program); err != nil {
			say("the program %s is not there, or can't be run", program)
		}
		if service.EnvFile != "" {
			if _, err := keeper.ReadEnvFile(service.EnvFile); errors.Is(err, os.ErrNotExist) {
				say("the environment file %s is not there", service.EnvFile)
			} else if err != nil {
				say("%v", err)
			}
		}
		if info, err := os.Stat(service.Directory); err != nil || !info.IsDir() {
			say("the directory %s is not there", service.Directory)
		}
	}
	return all
}
