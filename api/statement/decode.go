package statement

import (
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// MaxSigners bounds the named signers.
const MaxSigners = MaxSignatures

// maxDates bounds the stated dates.
const maxDates = 16

// Decode reads a statement's payload: strict JSON, then every rule that can be
// checked from the statement alone, the table of kinds included. Errors are of
// type *FieldError.
func Decode(payload []byte) (*Statement, error) {
	if len(payload) > MaxPayload {
		return nil, fieldErrorf("payload", "is %d bytes, expected at most %d", len(payload), MaxPayload)
	}
	o, err := strictjson.ParseObject(payload)
	if err != nil {
		return nil, err
	}
	s := &Statement{}
	if got := o.Text("_type"); got != InTotoType {
		o.Fail("_type", "expected %q", InTotoType)
	}
	if got := o.Text("predicateType"); got != PredicateType {
		o.Fail("predicateType", "expected %q", PredicateType)
	}
	s.decodeSubject(o)
	p := o.Object("predicate")
	s.decodePredicate(p)
	o.Join(p)
	if err := o.Done(); err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return s, nil
}

// decodeSubject reads the one subject: its name says what it is, its digest
// set has one member.
func (s *Statement) decodeSubject(o *strictjson.Object) {
	list := o.Required("subject", strictjson.Array)
	if len(list.Items) != 1 {
		o.Fail("subject", "expected exactly one subject, found %d", len(list.Items))
		return
	}
	subject := o.NestedItem("subject", 0, list.Items[0])
	digest := subject.Required("digest", strictjson.ObjectKind)
	if len(digest.Members) == 1 && digest.Members[0].Value.Kind == strictjson.String {
		m := digest.Members[0]
		s.Subject = SubjectKind(m.Name)
		s.Digest = takeDigest(subject, "digest."+m.Name, m.Value.Text)
	} else {
		subject.Fail("digest", "expected exactly one digest, a string")
	}
	if want := s.Subject.name(); want == "" {
		subject.Fail("digest", "unknown algorithm, expected one of %v", subjectKinds())
	} else if got := subject.Text("name"); got != want {
		// A free name would be a place for file names.
		subject.Fail("name", "expected %q for this subject", want)
	}
	o.Join(subject)
}

// subjectKinds lists the subjects.
func subjectKinds() []SubjectKind {
	return []SubjectKind{
		SubjectSHA256, SubjectCommit, SubjectStatement, SubjectTrial, SubjectKey, SubjectLog,
	}
}

// name is the in-toto subject name that belongs to a subject.
func (k SubjectKind) name() string {
	switch k {
	case SubjectSHA256, SubjectCommit:
		return "document"
	case SubjectStatement, SubjectTrial:
		return "trial"
	case SubjectKey:
		return "key"
	case SubjectLog:
		return "log"
	}
	return ""
}

func takeDigest(o *strictjson.Object, name, text string) Digest {
	d, err := ParseDigest(text)
	if err != nil {
		o.Fail(name, "expected %d lower-case hexadecimal digits", 2*len(d))
	}
	return d
}

// digestMember reads a digest; an absent optional one is zero.
func digestMember(o *strictjson.Object, name string, required bool) Digest {
	if !required {
		if _, ok := o.Optional(name); !ok {
			return Digest{}
		}
	}
	d := takeDigest(o, name, o.Text(name))
	if d.IsZero() {
		o.Fail(name, "expected a digest that is not zero")
	}
	return d
}

// attributesMember reads the member attributes, which is absent rather than
// empty.
func attributesMember(o *strictjson.Object) []Member {
	v, ok := o.Optional("attributes")
	if !ok {
		return nil
	}
	if v.Kind != strictjson.ObjectKind || len(v.Members) == 0 {
		o.Fail("attributes", "expected an object with at least one member, or nothing")
	}
	return v.Members
}

func (s *Statement) decodePredicate(p *strictjson.Object) {
	s.Log = p.Text("log")
	s.Organisation = p.Text("organisation")
	s.Trial = p.OptionalText("trial")
	s.Kind = Kind(p.Text("kind"))
	s.Version = p.OptionalText("version")
	s.decodeSigners(p)
	chain := p.Object("chain")
	s.Chain.Number = chain.Unsigned("number")
	s.Chain.Previous = digestMember(chain, "previous", false)
	p.Join(chain)
	s.Amends = digestMember(p, "amends", false)
	s.Supersedes = digestMember(p, "supersedes", false)
	s.decodeDates(p)
	s.MediaType = p.OptionalText("mediaType")
	if v, ok := p.Optional("beacon"); ok {
		b := p.Nested("beacon", v)
		s.Beacon = &Beacon{Origin: b.Text("origin"), Size: b.Unsigned("size"), Note: digestMember(b, "sha256", true)}
		p.Join(b)
	}
	s.Attributes = attributesMember(p)
	if v, ok := p.Optional("sealedAttributes"); ok {
		c := p.Nested("sealedAttributes", v)
		s.Sealed = digestMember(c, string(SubjectCommit), true)
		p.Join(c)
	}
	if v, ok := p.Optional("received"); ok {
		r := p.Nested("received", v)
		s.Received = &ReceptionInfo{
			Principal: r.Text("principal"), Method: r.Text("method"), Request: digestMember(r, "request", false),
		}
		p.Join(r)
	}
}

func (s *Statement) decodeSigners(p *strictjson.Object) {
	list := p.Required("signers", strictjson.Array)
	if n := len(list.Items); n < 1 || n > MaxSigners {
		p.Fail("signers", "expected 1 to %d signers, found %d", MaxSigners, n)
		return
	}
	s.Signers = make([]Signer, 0, len(list.Items))
	for i, item := range list.Items {
		o := p.NestedItem("signers", i, item)
		s.Signers = append(s.Signers, Signer{
			Key:     digestMember(o, "key", true),
			Meaning: Meaning(o.Text("meaning")),
			At:      Date(o.Text("at")),
		})
		p.Join(o)
	}
}

func (s *Statement) decodeDates(p *strictjson.Object) {
	v, ok := p.Optional("dates")
	if !ok {
		return
	}
	if v.Kind != strictjson.ObjectKind || len(v.Members) == 0 || len(v.Members) > maxDates {
		p.Fail("dates", "expected an object with 1 to %d members", maxDates)
		return
	}
	s.Dates = make([]NamedDate, 0, len(v.Members))
	for _, m := range v.Members {
		if m.Value.Kind != strictjson.String {
			p.Fail("dates."+m.Name, "expected a string, found %s", m.Value.Kind)
			return
		}
		s.Dates = append(s.Dates, NamedDate{Name: m.Name, Date: Date(m.Value.Text)})
	}
}

// Check applies every rule that needs the statement alone. Decode calls it;
// Build does too, so that a client sees the same errors as the log.
func (s *Statement) Check() error {
	rule, ok := RuleOf(s.Kind)
	if !ok {
		return fieldErrorf("predicate.kind", "unknown kind, expected one of those that this version knows")
	}
	if rule.Placement == BatchOnly {
		return fieldErrorf("predicate.kind", "%q stands only inside a batch, so that its position and time reveal nothing", s.Kind)
	}
	for _, check := range [...]func(*Statement, Rule) error{
		(*Statement).checkNames, (*Statement).checkSigners, (*Statement).checkLinks,
		(*Statement).checkSubject, (*Statement).checkContent,
	} {
		if err := check(s, rule); err != nil {
			return err
		}
	}
	_, hasKey := s.Attribute("publicKey")
	switch s.Kind {
	case KindKey:
		return s.checkKey(hasKey)
	case KindReveal:
		return s.checkReveal()
	case KindBatch:
		if n := s.CountAttribute("count"); n < 1 || n > MaxRecords {
			return fieldErrorf("predicate.attributes.count", "expected 1 to %d records, found %d", MaxRecords, n)
		}
	default: // the table said it all
	}
	return nil
}

func (s *Statement) checkNames(rule Rule) error {
	if err := CheckLog("predicate.log", s.Log); err != nil {
		return err
	}
	if err := CheckToken("predicate.organisation", s.Organisation); err != nil {
		return err
	}
	if rule.Scope == InTrial || rule.Scope == InTrialOrLog && s.Trial != "" {
		if err := CheckToken("predicate.trial", s.Trial); err != nil {
			return err
		}
	} else if s.Trial != "" {
		return fieldErrorf("predicate.trial", "a statement of kind %q names no trial", s.Kind)
	}
	if s.Version != "" {
		if err := CheckToken("predicate.version", s.Version); err != nil {
			return err
		}
	}
	for _, d := range s.Dates {
		if err := CheckToken("predicate.dates", d.Name); err != nil {
			return fieldErrorf("predicate.dates", "expected names of 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
		}
		if !isDate(d.Date) { // no path is made for a good one
			return CheckDate("predicate.dates."+d.Name, d.Date)
		}
	}
	return nil
}

// checkSigners: 21 CFR 11.50(a), a signature says who, when, and its meaning.
func (s *Statement) checkSigners(rule Rule) error {
	if len(s.Signers) < 1 || len(s.Signers) > MaxSigners {
		return fieldErrorf("predicate.signers", "expected 1 to %d signers, found %d", MaxSigners, len(s.Signers))
	}
	for i, signer := range s.Signers {
		path := func(member string) string { return fmt.Sprintf("predicate.signers[%d].%s", i, member) }
		if slices.ContainsFunc(s.Signers[:i], func(o Signer) bool { return o.Key == signer.Key }) {
			return fieldErrorf(path("key"), "the same key is named twice")
		}
		if !slices.Contains(Meanings(), signer.Meaning) {
			return fieldErrorf(path("meaning"), "expected one of %v", Meanings())
		}
		// 21 CFR 11.50(a)(2): date and time of the signature.
		if !isTime(signer.At) {
			return CheckTime(path("at"), signer.At)
		}
		if (signer.Meaning == Reception) != (s.Received != nil) {
			return fieldErrorf(path("meaning"), "%q goes with the member received, and only with it", Reception)
		}
	}
	if r := s.Received; r != nil {
		if rule.Scope == InLog || rule.Kind == KindKey {
			return fieldErrorf("predicate.received", "a %q is said by its own signers only", rule.Kind)
		}
		if len(s.Signers) != 1 {
			return fieldErrorf("predicate.signers", "a received statement has the gateway as its one signer")
		}
		if err := CheckToken("predicate.received.principal", r.Principal); err != nil {
			return err
		}
		return CheckToken("predicate.received.method", r.Method)
	}
	return nil
}

func (s *Statement) checkLinks(Rule) error {
	if s.Chain.Number < 1 || s.Chain.Number > strictjson.MaxInteger {
		return fieldErrorf("predicate.chain.number", "expected an integer of at least 1")
	}
	if first := s.Chain.Number == 1; first != s.Chain.Previous.IsZero() {
		return fieldErrorf("predicate.chain.previous", "is absent for number 1 and present for every other")
	}
	if b := s.Beacon; b != nil {
		if CheckLog("predicate.beacon.origin", b.Origin) != nil || !IsShardOf(b.Origin, s.Log) {
			return fieldErrorf("predicate.beacon.origin", "expected the origin of a shard of %s", s.Log)
		}
		if b.Size == 0 {
			return fieldErrorf("predicate.beacon.size", "expected a checkpoint that is not empty")
		}
	}
	return nil
}
