package event

// AgentCheckpoint is a signed statement of how far the agent's two hash chains
// have come. It fixes every event before it. docs/evidence.md has the grammar
// of the statement and says what it proves.
type AgentCheckpoint struct {
	// Statement is the text that is signed, lines that end with a line feed.
	Statement string `json:"statement"`
	// Signature is the Ed25519 signature over exactly the bytes of the statement,
	// in base64.
	Signature string `json:"signature" jsonschema_extras:"contentEncoding=base64"`
	// PublicKey is the agent's public key, 32 bytes in base64.
	PublicKey string `json:"public_key" jsonschema_extras:"contentEncoding=base64"`
}

// AgentKey says which key the agent signs its checkpoints with from now on.
type AgentKey struct {
	// PublicKey is the agent's public key, 32 bytes in base64.
	PublicKey string `json:"public_key" jsonschema_extras:"contentEncoding=base64"`
	// Reason is "first" (the agent's first key), "rotated" (a person had a new key
	// made; the previous key endorses it) or "lost" (the previous key can't be
	// read any more, so nothing endorses the new one).
	Reason string `json:"reason" jsonschema:"enum=first,enum=rotated,enum=lost"`
	// PreviousPublicKey is the key that was in use before, in base64; absent when
	// there was none or it is not known.
	PreviousPublicKey string `json:"previous_public_key,omitempty" jsonschema_extras:"contentEncoding=base64"`
	// Statement is the text that names the new key, lines that end with a line
	// feed.
	Statement string `json:"statement"`
	// Endorsement is the previous key's Ed25519 signature over exactly the bytes
	// of the statement, in base64; absent when there is no previous key.
	Endorsement string `json:"endorsement,omitempty" jsonschema_extras:"contentEncoding=base64"`
}

// Type implements Data.
func (AgentCheckpoint) Type() string { return "lanepost.agent.checkpoint.v1" }
func (AgentKey) Type() string        { return "lanepost.agent.key.v1" }

// Class implements Data.
func (AgentCheckpoint) Class() Class { return Urgent }
func (AgentKey) Class() Class        { return Urgent }
