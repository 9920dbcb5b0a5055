package config

import (
	"fmt"
	"strings"

	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// Reference is the part of the manual that lists the keys, in Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString("### At the top\n\n")
	b.WriteString("| key | value | default | |\n| --- | --- | --- | --- |\n")
	b.WriteString("| `services` | a mapping of names to settings | | what is kept |\n")
	b.WriteString("| `defaults` | a mapping of settings | | for all services that don't say something else; mappings are merged |\n")
	rows[keeper.Config](&b, KeeperOptions)
	b.WriteString("\n### Of a service\n\n")
	b.WriteString("| key | value | default | |\n| --- | --- | --- | --- |\n")
	rows[keeper.Service](&b, ServiceOptions)
	return b.String()
}

func rows[T any](b *strings.Builder, all options[T]) {
	for _, o := range all {
		if o.Key == "" {
			continue
		}
		flag := ""
		if o.Flag != "" && o.Flag != strings.ReplaceAll(o.Key, "_", "-") {
			flag = fmt.Sprintf(" (`--%s`)", o.Flag)
		}
		value := ""
		if o.Default != "" {
			value = "`" + o.Default + "`"
		}
		fmt.Fprintf(b, "| `%s`%s | %s | %s | %s |\n", o.Key, flag, o.Shape(), value, strings.NewReplacer("`", "", "; repeatable", "", "|", `\|`).Replace(o.Usage))
	}
}
