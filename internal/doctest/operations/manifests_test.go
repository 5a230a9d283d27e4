package operations

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const (
	root     = "../../../"
	scaffold = root + "cmd/stint/internal/scaffold/_app/"
)

// block returns the only block of docs/deployment.md in a language.
func block(t *testing.T, language string) string {
	t.Helper()
	page := read(t, root+"docs/deployment.md")
	parts := strings.Split(page, "```"+language+"\n")
	if len(parts) != 2 {
		t.Fatalf("docs/deployment.md has %d blocks %s, want 1", len(parts)-1, language)
	}
	text, _, _ := strings.Cut(parts[1], "```")
	return text
}

// ofScaffold returns a file that stint init writes.
func ofScaffold(t *testing.T, name string) string {
	t.Helper()
	return strings.ReplaceAll(read(t, scaffold+name), "APPNAME", "app")
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Kubernetes knows every field of the manifest, one pod at a time has the volume, and the database is on it.
func TestKubernetes(t *testing.T) {
	var set appsv1.StatefulSet
	if err := yaml.UnmarshalStrict([]byte(block(t, "yaml")), &set); err != nil {
		t.Fatal(err)
	}
	if set.APIVersion != appsv1.SchemeGroupVersion.String() || set.Kind != "StatefulSet" || *set.Spec.Replicas != 1 {
		t.Errorf("%s %s with %d replicas", set.APIVersion, set.Kind, *set.Spec.Replicas)
	}
	pod, claim := set.Spec.Template, set.Spec.VolumeClaimTemplates[0]
	for k, v := range set.Spec.Selector.MatchLabels {
		if pod.Labels[k] != v {
			t.Errorf("the selector wants %s=%s, pods have %v", k, v, pod.Labels)
		}
	}
	if modes := claim.Spec.AccessModes; !slices.Equal(modes, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}) {
		t.Errorf("access modes %v", modes)
	}
	if claim.Spec.Resources.Requests.Storage().IsZero() {
		t.Error("the claim has no size")
	}
	c := pod.Spec.Containers[0]
	mount := c.VolumeMounts[0]
	if mount.Name != claim.Name || !strings.HasPrefix(argument(c.Args, "-db"), mount.MountPath+"/") {
		t.Errorf("the container has %v and mounts %s at %s; the claim is %s", c.Args, mount.Name, mount.MountPath, claim.Name)
	}
	port := c.Ports[0].ContainerPort
	if argument(c.Args, "-addr") != fmt.Sprint(":", port) || c.ReadinessProbe.HTTPGet.Port.IntVal != port {
		t.Errorf("port %d is not that of %v or of %v", port, c.Args, c.ReadinessProbe.HTTPGet.Port)
	}
}

// argument returns what follows a flag.
func argument(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// BuildKit takes the Dockerfiles without a warning, what is copied exists, and the database is on the volume.
func TestDockerfiles(t *testing.T) {
	for name, text := range map[string]string{"docs/deployment.md": block(t, "dockerfile"), "stint init": ofScaffold(t, "Dockerfile")} {
		t.Run(name, func(t *testing.T) {
			checkDockerfile(t, text)
		})
	}
}

func checkDockerfile(t *testing.T, text string) {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Error(w.Short)
	}
	stages, _, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		t.Errorf("%s: %s", rule, message)
	}}))
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{} // by stage and path
	var volume, entry []string
	for _, stage := range stages {
		for _, command := range stage.Commands {
			switch c := command.(type) {
			case *instructions.RunCommand:
				for _, m := range regexp.MustCompile(`(?:-o|mkdir) (/\S+)`).FindAllStringSubmatch(c.CmdLine[0], -1) {
					made[stage.Name+" "+m[1]] = true
				}
			case *instructions.CopyCommand:
				for _, from := range c.SourcePaths {
					if c.From != "" && !made[c.From+" "+from] || c.From == "" && from != "." {
						t.Errorf("%s: nothing has made %s", c, from)
					}
				}
				made[stage.Name+" "+c.DestPath] = true
			case *instructions.VolumeCommand:
				volume = c.Volumes
			case *instructions.EntrypointCommand:
				entry = c.CmdLine
			}
		}
	}
	last := stages[len(stages)-1].Name
	if len(entry) == 0 || !made[last+" "+entry[0]] {
		t.Errorf("the entry point %v is not in the image", entry)
	}
	if len(volume) != 1 || !made[last+" "+volume[0]] || !strings.HasPrefix(argument(entry, "-db"), volume[0]+"/") {
		t.Errorf("the volume %v does not have the database of %v", volume, entry)
	}
}

// systemd knows every setting of the units, and the database is where they may write.
func TestUnits(t *testing.T) {
	program := regexp.MustCompile(`(?m)^ExecStart=(\S+) -db /var/lib/(\w+)/`)
	for name, text := range map[string]string{"docs/deployment.md": block(t, "ini"), "stint init": ofScaffold(t, "APPNAME.service")} {
		t.Run(name, func(t *testing.T) {
			m := program.FindStringSubmatch(text)
			if m == nil || !strings.Contains(text, "\nStateDirectory="+m[2]+"\n") {
				t.Fatalf("the database is not in the unit's directory of state: %q", m)
			}
			self, err := os.Executable() // stands for the program, which must exist
			if err != nil {
				t.Fatal(err)
			}
			unit := filepath.Join(t.TempDir(), "app.service")
			if err := os.WriteFile(unit, []byte(strings.Replace(text, "ExecStart="+m[1], "ExecStart="+self, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := exec.LookPath("systemd-analyze"); err != nil {
				t.Skip("systemd-analyze is not here")
			}
			out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput()
			if strings.Contains(string(out), "app.service") { // else it tells of this machine
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
		})
	}
}
