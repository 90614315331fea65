// Package kms signs with keys that are with a key management service: those of
// AWS, Azure and Google, and the transit engine of Vault. It is trusted with
// nothing: who calls it verifies what the service answers.
package kms

// Schemes returns the schemes of the references that Open understands.
//
//	awskms://[HOST]/KEY-ID, ARN or alias/NAME     P-256
//	azurekms://VAULT.vault.azure.net/NAME         P-256
//	gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/V   P-256
//	hashivault://NAME                             Ed25519, P-256
//
// Where the service is and who one is to it come from where its own tools take
// it: the environment, its configuration files, the machine's identity. None of
// it is part of a reference.
func Schemes() []string { return []string{"awskms", "azurekms", "gcpkms", "hashivault"} }
