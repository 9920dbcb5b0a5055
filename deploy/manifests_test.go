package deploy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// image is what the last stage of a Containerfile says.
type image struct {
	user, stopSignal string
	env, entrypoint  []string
	cmd              []string
}

func containerfile(t *testing.T) image {
	t.Helper()
	text, err := os.ReadFile("Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	var i image
	for _, c := range stages[len(stages)-1].Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			i.user = c.User
		case *instructions.StopSignalCommand:
			i.stopSignal = c.Signal
		case *instructions.EnvCommand:
			for _, e := range c.Env {
				i.env = append(i.env, e.Key+"="+e.Value)
			}
		case *instructions.EntrypointCommand:
			i.entrypoint = c.CmdLine
		case *instructions.CmdCommand:
			i.cmd = c.CmdLine
		}
	}
	return i
}

// What Kubernetes reads has no key that it doesn't know, fits the image, and its
// times fit each other.
func TestKubernetes(t *testing.T) {
	text, err := os.ReadFile("kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := strings.Split(string(text), "\n---\n")
	var d appsv1.Deployment
	var s corev1.Service
	for i, into := range []any{&d, &s} {
		if err := yaml.UnmarshalStrict([]byte(documents[i]), into); err != nil {
			t.Fatal(err)
		}
	}
	pod := d.Spec.Template.Spec
	c := pod.Containers[0]
	i := containerfile(t)
	if !slices.Equal(c.Args, i.cmd) {
		t.Errorf("args are %q, those of the image %q", c.Args, i.cmd)
	}
	grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	before := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if grace < before+keeper.DefaultStopTimeout+5*time.Second {
		t.Errorf("grace period %v: preStop takes %v of it, the keeper %v", grace, before, keeper.DefaultStopTimeout)
	}
	if p := c.StartupProbe; time.Duration(p.PeriodSeconds*p.FailureThreshold)*time.Second < keeper.DefaultReadyTimeout {
		t.Errorf("startupProbe ends before the keeper's ready timeout of %v", keeper.DefaultReadyTimeout)
	}
	ports := map[string]string{}
	for _, p := range c.Ports {
		ports[p.Name] = ":" + itoa(int(p.ContainerPort))
	}
	for _, p := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
		if name := p.HTTPGet.Port.StrVal; ports[name] != after(i.entrypoint, "--metrics") {
			t.Errorf("a probe asks port %s, %s", name, ports[name])
		}
	}
	if to := s.Spec.Ports[0].TargetPort.StrVal; ports[to] != after(i.entrypoint, "--listen") {
		t.Errorf("the service leads to port %s, %s", to, ports[to])
	}
	if control := strings.Join(i.env, " "); !strings.Contains(control, "="+c.VolumeMounts[0].MountPath+"/") {
		t.Errorf("the control socket (%s) is not in the volume (%s)", control, c.VolumeMounts[0].MountPath)
	}
}

// after is the argument after a flag.
func after(args []string, flag string) string {
	at := slices.Index(args, flag)
	if at < 0 || at+1 == len(args) {
		return "none"
	}
	return args[at+1]
}

func TestKubelet(t *testing.T) {
	text, err := os.ReadFile("kubelet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		APIVersion, Kind     string
		SingleProcessOOMKill bool
	}
	b, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || c.Kind != "KubeletConfiguration" || !c.SingleProcessOOMKill {
		t.Errorf("%+v %v", c, err)
	}
}

// The job is HCL, and is killed later than the keeper needs.
func TestNomad(t *testing.T) {
	text, err := os.ReadFile("app.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	file, diagnostics := hclsyntax.ParseConfig(text, "app.nomad.hcl", hcl.InitialPos)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	body := file.Body.(*hclsyntax.Body)
	for _, name := range []string{"job", "group", "task"} {
		var found *hclsyntax.Body
		for _, b := range body.Blocks {
			if b.Type == name && slices.Equal(b.Labels, []string{"app"}) {
				found = b.Body
			}
		}
		if found == nil {
			t.Fatalf("no %s", name)
		}
		body = found
	}
	v, diagnostics := body.Attributes["kill_timeout"].Expr.Value(nil)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	if d, err := time.ParseDuration(v.AsString()); err != nil || d < keeper.DefaultStopTimeout+5*time.Second {
		t.Errorf("kill_timeout %v, %v", d, err)
	}
}
