package archcheck

import (
	"fmt"
	"slices"
	"strings"
)

// Violation is one broken rule.
type Violation struct {
	Rule  string   // what is required, and why
	Chain []string // import paths, from the package that is held to the rule to the offending one
}

// String is the rule and, below it, the chain.
func (v Violation) String() string {
	return v.Rule + "\n\t" + strings.Join(v.Chain, "\n\t  imports ")
}

// sight says which trees of the module the packages of one tree may import, besides those
// of the tree itself. Paths are relative to the module; "*" stands for one path element.
type sight struct {
	tree string
	sees []string
	why  string
}

// sights is read from the top: the first row whose tree holds a package is its row.
func sights() []sight {
	return []sight{
		{"api", nil, "api imports only api: third parties program against it"},
		{"services/config", nil, "services/config imports nothing of ours: the operator renders it"},
		{"services/cmd/*", []string{"api", "services", "internal"}, "a server binary wires services and nothing else"},
		{
			"services/internal",
			[]string{"api", "services/config", "internal"},
			"services/internal never imports a service: it is shared by them",
		},
		{
			"services/*",
			[]string{"api", "services/config", "services/internal", "internal"},
			"a service never imports another: they meet over RPC only",
		},
		{"operator", []string{"api", "services/config"}, "the operator sees operator, services/config and api only"},
		{"internal", nil, "internal imports nothing of ours: it starts foreign servers for tests"},
		{"e2e", []string{"api", "operator/api", "internal"}, "e2e is black box: it sees api, operator/api and internal only"},
		{"tools/*", []string{"api", "operator/api"}, "a tool sees api and operator/api only"},
	}
}

// The packages that a third party imports to check evidence.
func evidencePackages() []string {
	return []string{
		"api/statement", "api/entry", "api/checkpoint", "api/receipt", "api/timestamp", "api/verify",
		"api/loglist", "api/evidence", "api/trustbundle", "api/keyring",
	}
}

// evidenceModules are the modules that these may link; golang.org/x is allowed as a whole.
func evidenceModules() []string {
	return []string{"github.com/transparency-dev/merkle", "filippo.io/mldsa"}
}

// maxVerifyModules bounds what `import ".../api/verify"` adds to a regulator's go.sum.
const maxVerifyModules = 8

// heavyTrees are packages that the server must not link: they bring databases, brokers and
// command-line flags of their own.
func heavyTrees() []string {
	return []string{
		"github.com/google/trillian/cmd",
		"github.com/google/trillian/quota/etcd",
		"github.com/google/trillian/storage/cloudspanner",
		"github.com/google/trillian/util/election2/etcd",
		"github.com/google/trillian/util/election2/k8s",
	}
}

// vagueNames say nothing about what a package holds.
func vagueNames() []string {
	return []string{"base", "common", "helper", "helpers", "misc", "shared", "types", "util", "utils"}
}

// Check holds the packages of module in g to the rules and returns what breaks them, in the
// order of package paths.
func Check(g Graph, module string) []Violation {
	var found []Violation
	for _, path := range g.own() {
		c := checker{graph: g, module: module, pkg: g[path]}
		found = append(found, c.sight()...)
		found = append(found, c.generated()...)
		found = append(found, c.trillian()...)
		found = append(found, c.evidence()...)
		found = append(found, c.weight()...)
		found = append(found, c.name()...)
	}
	return found
}

// checker holds one package to the rules.
type checker struct {
	graph  Graph
	module string
	pkg    *Package
}

// rel returns path relative to the module, and whether it is of the module.
func (c checker) rel(path string) (string, bool) {
	if path == c.module {
		return ".", true
	}
	return strings.CutPrefix(path, c.module+"/")
}

// here is the package's own relative path.
func (c checker) here() string {
	rel, _ := c.rel(c.pkg.ImportPath)
	return rel
}

// sight holds direct imports, also those of tests, to the table of sights. Each package is
// held to its own row, so that what is reached through others needs no rule.
func (c checker) sight() []Violation {
	row, tree, found := rowOf(c.here())
	if !found {
		return nil
	}
	var violations []Violation
	for _, imported := range c.allImports() {
		rel, own := c.rel(imported)
		if !own || within(rel, tree) {
			continue
		}
		if !slices.ContainsFunc(row.sees, func(seen string) bool { return within(rel, seen) }) {
			violations = append(violations, c.direct(row.why, imported))
		}
	}
	return violations
}

// rowOf returns the row for a relative path, and its tree with each "*" filled in.
func rowOf(rel string) (row sight, tree string, found bool) {
	elements := strings.Split(rel, "/")
	for _, row := range sights() {
		pattern := strings.Split(row.tree, "/")
		if len(elements) < len(pattern) {
			continue
		}
		matches := true
		for i, want := range pattern {
			matches = matches && (want == "*" || want == elements[i])
		}
		if matches {
			return row, strings.Join(elements[:len(pattern)], "/"), true
		}
	}
	return sight{}, "", false
}

// generated keeps the generated code behind api/client and the services.
func (c checker) generated() []Violation {
	if here := c.here(); within(here, "api/gen") || within(here, "api/client") || within(here, "services") {
		return nil
	}
	const why = "only api/client and services import api/gen: the wire format is not the API"
	return c.forbid(why, c.pkg.Imports, func(path string) bool {
		rel, own := c.rel(path)
		return own && within(rel, "api/gen")
	})
}

// trillian keeps Trillian behind the narrow log interface.
func (c checker) trillian() []Violation {
	if within(c.here(), "services/internal/tlog") {
		return nil
	}
	const why = "only services/internal/tlog imports Trillian: all else sees the narrow log interface"
	return c.forbid(why, c.pkg.Imports, func(path string) bool { return within(path, "github.com/google/trillian") })
}

// evidence holds all that the evidence packages link to the list of modules.
func (c checker) evidence() []Violation {
	if !slices.Contains(evidencePackages(), c.here()) {
		return nil
	}
	var violations []Violation
	modules := make(map[string]bool)
	c.graph.linked(c.pkg.ImportPath, func(p *Package, chain []string) {
		module := p.modulePath()
		if modules[module] {
			return
		}
		modules[module] = true
		if !strings.HasPrefix(module, "golang.org/x/") && !slices.Contains(evidenceModules(), module) {
			rule := c.here() + " links " + module + ": evidence is checked with the standard library, golang.org/x, " +
				strings.Join(evidenceModules(), " and ") + " only"
			violations = append(violations, Violation{rule, chain})
		}
		if c.here() == "api/verify" && len(modules) == maxVerifyModules+1 {
			rule := fmt.Sprintf("api/verify links more than %d third-party modules; the next one is %s", maxVerifyModules, module)
			violations = append(violations, Violation{rule, chain})
		}
	})
	return violations
}

// weight keeps the heavy parts of Trillian out of every program.
func (c checker) weight() []Violation {
	if c.pkg.Name != "main" {
		return nil
	}
	var violations []Violation
	c.graph.linked(c.pkg.ImportPath, func(p *Package, chain []string) {
		if slices.ContainsFunc(heavyTrees(), func(tree string) bool { return within(p.ImportPath, tree) }) {
			violations = append(violations, Violation{"a program links " + p.ImportPath + ", which brings far more than it gives", chain})
		}
	})
	return violations
}

// name wants a package to be named after what it holds.
func (c checker) name() []Violation {
	if !slices.Contains(vagueNames(), c.pkg.Name) {
		return nil
	}
	return []Violation{{"a package is one noun: " + c.pkg.Name + " says nothing", []string{c.pkg.ImportPath}}}
}

// forbid reports each of imports that is bad.
func (c checker) forbid(why string, imports []string, bad func(path string) bool) []Violation {
	var violations []Violation
	for _, imported := range imports {
		if bad(imported) {
			violations = append(violations, c.direct(why, imported))
		}
	}
	return violations
}

// direct is a violation by one import.
func (c checker) direct(why, imported string) Violation {
	return Violation{why, []string{c.pkg.ImportPath, imported}}
}

// allImports lists what the package and its tests import, sorted, each once; an external
// test's import of its own package is not one.
func (c checker) allImports() []string {
	all := slices.Concat(c.pkg.Imports, c.pkg.TestImports, c.pkg.XTestImports)
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(path string) bool { return path == c.pkg.ImportPath })
}
