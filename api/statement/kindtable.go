package statement

// Short forms that keep the table's rows readable.
func req(name string, t ValueType) Attribute { return Attribute{Name: name, Type: t, Required: true} }

func opt(name string, t ValueType) Attribute { return Attribute{Name: name, Type: t} }

func sealed(name string, t ValueType) Attribute {
	return Attribute{Name: name, Type: t, Required: true, Sealed: true}
}

func sealedOpt(name string, t ValueType) Attribute {
	return Attribute{Name: name, Type: t, Sealed: true}
}

func choice(name string, options ...string) Attribute {
	return Attribute{Name: name, Type: Choice, Required: true, Options: options}
}

// kinds is the table of kinds, in the order of a trial's life. Names of
// persons, the subject, the site of a consent and its date are always sealed.
var kinds = []Rule{ //nolint:gochecknoglobals // never changed while the program runs
	{Kind: KindTrial, Sayers: []Role{Sponsor, CRO}, Attributes: []Attribute{
		opt("registryIds", TokenList), opt("publicTitle", Text), opt("transferTo", Token),
	}},
	{Kind: KindRegistration, Content: AnyDocument, Sayers: []Role{Sponsor, CRO}, Attributes: []Attribute{
		req("registry", Token), req("registryId", Token),
	}},
	{Kind: KindProtocol, Content: AnyDocument, Sayers: []Role{Sponsor, CRO}, Attributes: []Attribute{
		opt("amendment", Token), opt("reason", Text), opt("scope", Token),
	}},
	{Kind: KindSAP, Content: AnyDocument, Sayers: []Role{Sponsor, CRO}, Attributes: []Attribute{
		{Name: "status", Type: Choice, Options: []string{"draft", "final"}}, opt("reason", Text),
	}},
	{Kind: KindEthicsApproval, Content: AnyDocument, Sayers: []Role{Ethics, Sponsor, CRO, Site}, Attributes: []Attribute{
		choice("decision", "approved", "approved-with-conditions", "rejected", "suspended", "withdrawn"),
		opt("committee", Text), opt("covers", DigestSet), opt("site", Token), opt("expires", DateValue),
	}},
	{Kind: KindConsentForm, Content: AnyDocument, Sayers: []Role{Sponsor, CRO, Site, Ethics}, Attributes: []Attribute{
		req("form", Token), req("language", Token), opt("site", Token),
	}},
	{
		Kind: KindSiteRelease, Sayers: []Role{Sponsor, CRO, Site}, After: []Kind{KindEthicsApproval},
		Attributes: []Attribute{req("site", Token), req("releases", DigestSet), opt("mandatoryFrom", DateValue)},
	},
	{
		Kind: KindConsent, Content: SealedDocument, Placement: BatchOnly, Sayers: []Role{Site, Sponsor, CRO},
		Attributes: []Attribute{
			sealed("subject", Token), sealed("site", Token), sealed("signedOn", DateValue),
			sealedOpt("form", DigestHex), sealedOpt("takenBy", Text),
		},
	},
	{
		Kind: KindConsentWithdrawal, Content: OptionalDocument, Placement: BatchOnly, Sayers: []Role{Site, Sponsor, CRO},
		Attributes: []Attribute{
			sealed("subject", Token), sealed("site", Token), sealed("withdrawnOn", DateValue), sealedOpt("scope", Text),
		},
	},
	{
		Kind: KindSubjectEvent, Content: OptionalDocument, Placement: BatchOnly, Sayers: []Role{Site, Sponsor, CRO},
		Attributes: []Attribute{
			sealed("subject", Token), sealed("site", Token), sealed("event", Token), sealed("occurredOn", DateValue),
		},
	},
	{
		Kind: KindResults, Content: AnyDocument, Sayers: []Role{Sponsor, CRO}, After: []Kind{KindProtocol, KindRegistration},
		Attributes: []Attribute{opt("registry", Token), opt("registryId", Token)},
	},
	{Kind: KindDocument, Content: AnyDocument, Attributes: []Attribute{
		// CDISC TMF Reference Model: zone, section and artifact number, such as 02.01.02.
		req("tmf", Token), choice("level", "trial", "country", "site"), opt("country", Token), opt("site", Token),
	}},
	{Kind: KindDatabaseLock, Content: OptionalDocument, Sayers: []Role{Sponsor, CRO}, After: []Kind{KindProtocol}, Attributes: []Attribute{
		choice("state", "locked", "unlocked"), opt("reason", Text),
	}},
	{
		Kind: KindUnblinding, Content: OptionalDocument, Placement: BatchOnly, Sayers: []Role{Site, Sponsor, CRO},
		Attributes: []Attribute{
			sealed("subject", Token), sealed("unblindedOn", DateValue), sealed("reason", Text), sealedOpt("person", Text),
		},
	},
	{Kind: KindDelegation, Content: OptionalDocument, Sayers: []Role{Sponsor, CRO, Site}, Attributes: []Attribute{
		req("task", Token), opt("toOrganisation", Token), opt("from", DateValue), opt("until", DateValue),
		sealedOpt("person", Text), sealedOpt("site", Token),
	}},
	{Kind: KindCredential, Scope: InOrganisation, Content: OptionalDocument, Attributes: []Attribute{
		req("credential", Token), opt("until", DateValue), sealedOpt("person", Text),
	}},
	{
		Kind: KindProductEvent, Content: OptionalDocument, Placement: Anywhere, Sayers: []Role{Sponsor, CRO, Site},
		Attributes: []Attribute{req("event", Token), opt("lot", Token), opt("quantity", Count), sealedOpt("kit", Token)},
	},
	{Kind: KindMilestone, Sayers: []Role{Sponsor, CRO, Site}, Attributes: []Attribute{
		req("milestone", Token), opt("planned", DateValue), opt("actual", DateValue),
	}},
	{Kind: KindReveal, Attributes: []Attribute{
		// What is opened: the statement's sealed document, or its sealed attributes,
		// whose bytes then stand in content.
		req("opens", DigestHex), choice("part", "document", "attributes"),
		req("nonce", NonceHex), req("sha256", DigestHex), req("sha3256", DigestHex), opt("content", Base64),
	}},
	{Kind: KindCorrection, Content: OptionalDocument, Attributes: []Attribute{
		// ICH E6(R3) 4.2.2: a correction says why.
		req("corrects", DigestHex), req("reason", Text),
	}},
	{Kind: KindErasure, Attributes: []Attribute{
		req("erases", DigestHex), req("ground", Text), req("requestedBy", Token),
	}},
	{Kind: KindClose, Sayers: []Role{Sponsor, CRO, Site}, Attributes: []Attribute{
		req("statements", Count), opt("reason", Text),
	}},
	{Kind: KindKey, Scope: InOrganisation, Attributes: []Attribute{
		choice("action", "enrol", "revoke"),
		// enrol
		opt("publicKey", KeyDER), opt("roles", TokenList), opt("recovery", KeyDER),
		// revoke
		opt("revokes", DigestHex), opt("suspectOrigin", LogName), opt("suspectFrom", Count), opt("reason", Text),
		sealedOpt("holder", Text),
	}},
	{Kind: KindPolicy, Scope: InLog, Content: PublicDocument, Sayers: []Role{Operator}, Attributes: []Attribute{
		opt("reason", Text),
	}},
	{
		Kind: KindAccess, Placement: BatchOnly,
		Attributes: []Attribute{sealed("person", Text), sealed("record", Text), sealed("accessedOn", DateValue)},
	},
	{Kind: KindReview, Content: OptionalDocument, Attributes: []Attribute{
		opt("reviews", DigestSet), opt("conclusion", Text),
	}},
	{Kind: KindRule, Scope: InLog, Content: PublicDocument, Sayers: []Role{Auditor, Operator}, Attributes: []Attribute{
		req("rule", Token),
	}},
	{Kind: KindToken, Scope: InLog, Placement: BatchOnly, Sayers: []Role{Operator}, Attributes: []Attribute{
		req("serial", Token), req("imprint", DigestHex), req("time", DateValue),
	}},
	{Kind: KindBatch, Scope: InTrialOrLog, Attributes: []Attribute{
		req("label", Token), req("recordType", Token), req("count", Count), req("root", DigestHex),
	}},
	{Kind: KindShardEnd, Scope: InLog, Sayers: []Role{Operator}, Attributes: []Attribute{
		req("successor", LogName),
	}},
	{Kind: KindShardStart, Scope: InLog, Sayers: []Role{Operator}, Attributes: []Attribute{
		opt("predecessor", LogName), opt("checkpoint", DigestHex),
	}},
}

// Kinds returns the table of kinds. The caller must not change it.
func Kinds() []Rule { return kinds }
