package archcheck

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/trialog/trialog"

// TestTree holds the repository itself to the rules.
func TestTree(t *testing.T) {
	touchSources(t, "../..")
	graph, err := Load(t.Context(), "../..", "./...")
	if err != nil {
		t.Fatal(err)
	}
	// Without this a wrong pattern or module path would let everything pass.
	if len(graph.own()) < 2 || graph[module+"/tools/archcheck"] == nil {
		t.Fatalf("the graph holds %d packages of %s; is the folder right?", len(graph.own()), module)
	}
	for _, violation := range Check(graph, module) {
		t.Errorf("%s", violation)
	}
}

// touchSources looks at every Go file below root. The files are read by the go command, which
// the cache of test results does not follow; it follows what the test itself looks at.
func touchSources(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// synthetic builds a graph from lines "path -> imports …", where "@" stands for our
// module, "module!" before a path names its module if that is not the path itself, "(test)"
// after a path marks imports of its tests, "(main)" a program. What is only imported is there too.
func synthetic(t *testing.T, lines ...string) Graph {
	t.Helper()
	graph := make(Graph)
	add := func(word string) *Package {
		owner, path, found := strings.Cut(word, "!")
		if !found {
			path = word
		}
		if own, isOwn := strings.CutPrefix(path, "@"); isOwn {
			path, owner = module+own, module
		}
		p := graph[path]
		if p == nil {
			p = &Package{ImportPath: path, Name: path[strings.LastIndexByte(path, '/')+1:]}
			switch {
			case strings.Contains(strings.SplitN(path, "/", 2)[0], "."):
				p.Module = &Module{Path: owner, Main: owner == module}
			default:
				p.Standard = true
			}
			graph[path] = p
		}
		return p
	}
	for _, line := range lines {
		left, right, found := strings.Cut(line, " -> ")
		if !found {
			t.Fatalf("no arrow in %q", line)
		}
		path, isTest := strings.CutSuffix(left, "(test)")
		path, isMain := strings.CutSuffix(path, "(main)")
		p := add(path)
		if isMain {
			p.Name = "main"
		}
		for word := range strings.FieldsSeq(right) {
			imported := add(word).ImportPath
			if isTest {
				p.XTestImports = append(p.XTestImports, imported)
			} else {
				p.Imports = append(p.Imports, imported)
			}
		}
	}
	return graph
}

// TestCheck proves that each rule catches what breaks it, and lets pass what does not.
func TestCheck(t *testing.T) {
	cases := []struct {
		name  string
		lines []string
		want  []string // one a violation: a part of its rule, "|", the chain with "@" for our module
	}{
		{"allowed", []string{
			"@/api/verify -> @/api/receipt crypto/sha256 github.com/transparency-dev/merkle!github.com/transparency-dev/merkle/proof",
			"@/api/client -> @/api/gen/trialog/v1 google.golang.org/grpc!google.golang.org/grpc",
			"@/services/gateway -> @/services/internal/run @/services/config @/api/client @/api/gen/trialog/v1",
			"@/services/internal/run -> @/services/config",
			"@/services/internal/tlog/trillian -> github.com/google/trillian!github.com/google/trillian/log",
			"@/services/cmd/trialogd(main) -> @/services/gateway @/services/sequencer",
			"@/operator/internal/plan -> @/operator/api/v1alpha1 @/services/config @/api/checkpoint",
			"@/e2e/scenario -> @/e2e/harness @/api/verify @/operator/api/v1alpha1",
			"@/tools/trialog(main) -> @/tools/trialog/cmd @/api/client",
			"@/services/gateway(test) -> @/services/gateway @/services/internal/run",
		}, nil},
		{
			"api sees a service",
			[]string{"@/api/client -> @/services/config"},
			[]string{"api imports only api|@/api/client @/services/config"},
		},
		{
			"service sees service",
			[]string{"@/services/gateway -> @/services/sequencer"},
			[]string{"never imports another|@/services/gateway @/services/sequencer"},
		},
		{
			"service sees part of service",
			[]string{"@/services/gateway/web -> @/services/sequencer/ledger"},
			[]string{"never imports another|@/services/gateway/web @/services/sequencer/ledger"},
		},
		{
			"test of a service sees service",
			[]string{"@/services/gateway(test) -> @/services/sequencer"},
			[]string{"never imports another|@/services/gateway @/services/sequencer"},
		},
		{
			"near name is not within",
			[]string{"@/services/gate -> @/services/gateway"},
			[]string{"never imports another|@/services/gate @/services/gateway"},
		},
		{
			"internal sees service",
			[]string{"@/services/internal/run -> @/services/witness"},
			[]string{"never imports a service|@/services/internal/run @/services/witness"},
		},
		{
			"config sees api",
			[]string{"@/services/config -> @/api/checkpoint"},
			[]string{"imports nothing of ours|@/services/config @/api/checkpoint"},
		},
		{
			"service sees operator",
			[]string{"@/services/mirror -> @/operator/api/v1alpha1"},
			[]string{"never imports another|@/services/mirror @/operator/api/v1alpha1"},
		},
		{
			"service sees cmd",
			[]string{"@/services/mirror -> @/services/cmd/trialogd"},
			[]string{"never imports another|@/services/mirror @/services/cmd/trialogd"},
		},
		{
			"operator sees service",
			[]string{"@/operator/internal/render -> @/services/internal/tile"},
			[]string{"the operator sees|@/operator/internal/render @/services/internal/tile"},
		},
		{
			"e2e sees service",
			[]string{"@/e2e/harness -> @/services/gateway"},
			[]string{"black box|@/e2e/harness @/services/gateway"},
		},
		{
			"tool sees service",
			[]string{"@/tools/hammer(main) -> @/services/internal/tile"},
			[]string{"a tool sees|@/tools/hammer @/services/internal/tile"},
		},
		{
			"tool sees tool",
			[]string{"@/tools/hammer(main) -> @/tools/trialog/cmd"},
			[]string{"a tool sees|@/tools/hammer @/tools/trialog/cmd"},
		},
		{
			"generated code",
			[]string{"@/tools/trialog(main) -> @/api/gen/trialog/v1", "@/api/verify -> @/api/gen/trialog/v1"},
			[]string{
				"wire format is not the API|@/api/verify @/api/gen/trialog/v1",
				"wire format is not the API|@/tools/trialog @/api/gen/trialog/v1",
			},
		},
		{
			"Trillian elsewhere",
			[]string{"@/services/sequencer -> github.com/google/trillian!github.com/google/trillian"},
			[]string{"narrow log interface|@/services/sequencer github.com/google/trillian"},
		},
		{
			"heavy part of Trillian, far away",
			[]string{
				"@/services/cmd/trialogd(main) -> @/services/internal/tlog/trillian",
				"@/services/internal/tlog/trillian -> example.org/glue!example.org/glue",
				"example.org/glue!example.org/glue -> github.com/google/trillian!github.com/google/trillian/quota/etcd/quotapb",
			},
			[]string{
				"brings far more|@/services/cmd/trialogd @/services/internal/tlog/trillian example.org/glue " +
					"github.com/google/trillian/quota/etcd/quotapb",
			},
		},
		{
			"evidence links protobuf through an allowed module",
			[]string{
				"@/api/checkpoint -> @/api/internal/wire",
				"@/api/internal/wire -> filippo.io/mldsa!filippo.io/mldsa",
				"filippo.io/mldsa!filippo.io/mldsa -> google.golang.org/protobuf!google.golang.org/protobuf/proto",
			},
			[]string{
				"api/checkpoint links google.golang.org/protobuf|" +
					"@/api/checkpoint @/api/internal/wire filippo.io/mldsa google.golang.org/protobuf/proto",
			},
		},
		{
			"vague name",
			[]string{"@/services/internal/util -> fmt"},
			[]string{"util says nothing|@/services/internal/util"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			found := Check(synthetic(t, c.lines...), module)
			if len(found) != len(c.want) {
				t.Fatalf("found %d violations, want %d:\n%s", len(found), len(c.want), found)
			}
			for i, want := range c.want {
				rule, chain, _ := strings.Cut(want, "|")
				wantChain := strings.Fields(strings.ReplaceAll(chain, "@", module))
				if !strings.Contains(found[i].Rule, rule) || !slices.Equal(found[i].Chain, wantChain) {
					t.Errorf("found %s\nwant rule with %q, chain %q", found[i], rule, wantChain)
				}
			}
		})
	}
}

// TestCheckModuleCount crosses the limit with modules that are allowed by name.
func TestCheckModuleCount(t *testing.T) {
	modules := []string{
		"golang.org/x/a", "golang.org/x/b", "golang.org/x/c", "golang.org/x/d",
		"golang.org/x/e", "golang.org/x/f", "golang.org/x/g", "golang.org/x/h", "golang.org/x/i",
	}
	line := func(n int) string {
		var imports strings.Builder
		for _, m := range modules[:n] {
			imports.WriteString(" " + m + "!" + m + " " + m + "!" + m + "/second")
		}
		return "@/api/verify ->" + imports.String()
	}
	if found := Check(synthetic(t, line(maxVerifyModules)), module); len(found) != 0 {
		t.Errorf("%d modules are refused: %s", maxVerifyModules, found)
	}
	found := Check(synthetic(t, line(maxVerifyModules+1)), module)
	if len(found) != 1 || !slices.Equal(found[0].Chain, []string{module + "/api/verify", modules[maxVerifyModules]}) {
		t.Errorf("found %s, want one violation with the chain to the last module", found)
	}
}

// TestViolationString shows what a person sees.
func TestViolationString(t *testing.T) {
	v := Violation{Rule: "a sees b", Chain: []string{"a", "x", "b"}}
	if got, want := v.String(), "a sees b\n\ta\n\t  imports x\n\t  imports b"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

// TestDecodeRefuses gives the decoder what go list does not print.
func TestDecodeRefuses(t *testing.T) {
	if _, err := Decode(strings.NewReader(`{"ImportPath":"a"} {"ImportPath"`)); err == nil {
		t.Error("a cut list is accepted")
	}
}

// TestLoadRefuses shows that a folder without a module is an error, not an empty graph.
func TestLoadRefuses(t *testing.T) {
	if _, err := Load(t.Context(), t.TempDir(), "./..."); err == nil {
		t.Error("a folder without a module gives no error")
	}
}
