package opcua

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // OAEP of the policy is with SHA-1
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Policy is a security policy (OPC 10000-7).
type Policy struct{ URI string }

// The policies that there are. The URIs are the Foundation's.
var (
	None           = Policy{policyPrefix + "None"}
	Basic256Sha256 = Policy{policyPrefix + "Basic256Sha256"}
)

const policyPrefix = "http://opcfoundation.org/UA/SecurityPolicy#"

func (p Policy) none() bool { return p.URI == None.URI }

// passwordPolicies are those whose passwords are encrypted as those of
// Basic256Sha256 are, by RSA-OAEP with SHA-1.
var passwordPolicies = map[string]bool{
	Basic256Sha256.URI: true, policyPrefix + "Basic256": true, policyPrefix + "Aes128_Sha256_RsaOaep": true,
}

// Lengths of Basic256Sha256 in bytes, and the names of its algorithms.
const (
	// NonceLength is how many random bytes each side gives.
	NonceLength = 32
	signingKey  = 32
	cipherKey   = 32
	minKey      = 256
	maxKey      = 512
	// oaepOverhead is what RSA-OAEP with SHA-1 takes of each block.
	oaepOverhead = 2*sha1.Size + 2

	algorithmSignature = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	algorithmPassword  = "http://www.w3.org/2001/04/xmlenc#rsa-oaep"
)

// CheckKey fails for a certificate that the policy does not allow.
func CheckKey(certificate *x509.Certificate) (*rsa.PublicKey, error) {
	key, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok || key.Size() < minKey || key.Size() > maxKey {
		return nil, errors.New("its key is not one of RSA with 2048 to 4096 bits, which Basic256Sha256 wants")
	}
	return key, nil
}

// keys secure what one side sends.
type keys struct{ sign, encrypt, iv []byte }

// deriveKeys makes the keys of the side whose nonce is the seed.
func deriveKeys(secret, seed []byte) keys {
	b := pSHA256(secret, seed, signingKey+cipherKey+aes.BlockSize)
	return keys{b[:signingKey], b[signingKey : signingKey+cipherKey], b[signingKey+cipherKey:]}
}

// pSHA256 is the pseudo-random function P_SHA256 of TLS (RFC 5246, section 5).
func pSHA256(secret, seed []byte, n int) []byte {
	mac := func(b ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, part := range b {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	var out []byte
	for a := mac(seed); len(out) < n; a = mac(a) {
		out = append(out, mac(a, seed)...)
	}
	return out[:n]
}

// sealer secures single chunks.
type sealer struct {
	*Channel
	asymmetric bool
}

func (c *Channel) sealer(asymmetric bool) sealer { return sealer{c, asymmetric} }

func (s sealer) signs() bool    { return !s.Policy.none() }
func (s sealer) encrypts() bool { return s.signs() && (s.asymmetric || s.Mode == ModeSignAndEncrypt) }

// sizes are those of a plain block, of its encrypted form and of the signature of
// what this side sends.
func (s sealer) sizes() (plain, cipher, signature int) {
	if !s.asymmetric {
		return aes.BlockSize, aes.BlockSize, sha256.Size
	}
	peer, _ := s.Peer.PublicKey.(*rsa.PublicKey) // CheckKey was asked before
	return peer.Size() - oaepOverhead, peer.Size(), s.Key.Size()
}

// room is how much of a message goes into n bytes behind the header.
func (s sealer) room(n int) int {
	const sequence = 8
	if !s.signs() {
		return n - sequence
	}
	plain, cipher, signature := s.sizes()
	if !s.encrypts() {
		return n - sequence - signature
	}
	return n/cipher*plain - sequence - signature - 2
}

// seal signs and encrypts what follows the header, and writes the length.
func (s sealer) seal(random io.Reader, head, body []byte) ([]byte, error) {
	if !s.signs() {
		chunk := append(head, body...)
		binary.LittleEndian.PutUint32(chunk[4:], uint32(len(chunk))) //nolint:gosec // bounded by room
		return chunk, nil
	}
	plain, block, signature := s.sizes()
	length := len(head) + len(body) + signature
	if s.encrypts() {
		extra := 1
		if block > minKey {
			extra = 2
		}
		n := (plain - (len(body)+extra+signature)%plain) % plain
		body = append(body, bytes.Repeat([]byte{byte(n)}, n+1)...) //nolint:gosec // the high byte follows
		if extra == 2 {
			body = append(body, byte(n>>8))
		}
		length = len(head) + (len(body)+signature)/plain*block
	}
	binary.LittleEndian.PutUint32(head[4:], uint32(length)) //nolint:gosec // bounded by room
	signed, err := s.sign(append(head[:len(head):len(head)], body...))
	if err != nil {
		return nil, err
	}
	body = append(body, signed...)
	if s.encrypts() {
		if body, err = s.encrypt(random, body); err != nil {
			return nil, err
		}
	}
	return append(head, body...), nil
}

// open gives what follows the first n bytes of a chunk, decrypted and checked.
func (s sealer) open(chunk []byte, n int) ([]byte, error) {
	head, rest := chunk[:n:n], chunk[n:]
	if !s.signs() {
		return rest, nil
	}
	size, long := sha256.Size, false
	if s.asymmetric {
		peer, _ := s.Peer.PublicKey.(*rsa.PublicKey)
		// Padding is counted by two bytes if the key is long that it was encrypted by.
		size, long = peer.Size(), s.Key.Size() > minKey
	}
	if s.encrypts() {
		var err error
		if rest, err = s.decrypt(rest); err != nil {
			return nil, err
		}
	}
	if len(rest) < size {
		return nil, ErrSecurity
	}
	body, signature := rest[:len(rest)-size], rest[len(rest)-size:]
	if err := s.verify(append(head, body...), signature); err != nil {
		return nil, err
	}
	if !s.encrypts() {
		return body, nil
	}
	padding, extra := 0, 1
	if long && len(body) > 0 {
		padding, extra = int(body[len(body)-1])<<8, 2
	}
	if len(body) < extra {
		return nil, ErrSecurity
	}
	// All bytes of the padding are the low byte of its length.
	padding += int(body[len(body)-extra])
	if len(body) < padding+extra {
		return nil, ErrSecurity
	}
	return body[:len(body)-padding-extra], nil
}

func (s sealer) sign(b []byte) ([]byte, error) {
	if s.asymmetric {
		return sign(s.Key, b)
	}
	h := hmac.New(sha256.New, s.out.sign)
	h.Write(b)
	return h.Sum(nil), nil
}

func (s sealer) verify(b, signature []byte) error {
	if s.asymmetric {
		return verify(s.Peer, b, signature)
	}
	h := hmac.New(sha256.New, s.in.sign)
	h.Write(b)
	if !hmac.Equal(h.Sum(nil), signature) {
		return ErrSecurity
	}
	return nil
}

func (s sealer) encrypt(random io.Reader, b []byte) ([]byte, error) {
	if s.asymmetric {
		return encryptOAEP(random, s.Peer, b)
	}
	block, err := aes.NewCipher(s.out.encrypt)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecurity, err)
	}
	cipher.NewCBCEncrypter(block, s.out.iv).CryptBlocks(b, b)
	return b, nil
}

func (s sealer) decrypt(b []byte) ([]byte, error) {
	if s.asymmetric {
		return decryptOAEP(s.Key, b)
	}
	block, err := aes.NewCipher(s.in.encrypt)
	if err != nil || len(b)%aes.BlockSize != 0 {
		return nil, ErrSecurity
	}
	out := make([]byte, len(b))
	cipher.NewCBCDecrypter(block, s.in.iv).CryptBlocks(out, b)
	return out, nil
}

func sign(key *rsa.PrivateKey, b []byte) ([]byte, error) {
	sum := sha256.Sum256(b)
	return rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
}

func verify(certificate *x509.Certificate, b, signature []byte) error {
	key, err := CheckKey(certificate)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); err != nil {
		return fmt.Errorf("%w: %w", ErrSecurity, err)
	}
	return nil
}

func encryptOAEP(random io.Reader, certificate *x509.Certificate, b []byte) ([]byte, error) {
	key, err := CheckKey(certificate)
	if err != nil {
		return nil, err
	}
	var out []byte
	for len(b) > 0 {
		n := min(key.Size()-oaepOverhead, len(b))
		part, err := rsa.EncryptOAEP(sha1.New(), random, key, b[:n], nil) //nolint:gosec // the policy's
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSecurity, err)
		}
		out, b = append(out, part...), b[n:]
	}
	return out, nil
}

func decryptOAEP(key *rsa.PrivateKey, b []byte) ([]byte, error) {
	if len(b)%key.Size() != 0 {
		return nil, ErrSecurity
	}
	var out []byte
	for len(b) > 0 {
		part, err := rsa.DecryptOAEP(sha1.New(), nil, key, b[:key.Size()], nil) //nolint:gosec // the policy's
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSecurity, err)
		}
		out, b = append(out, part...), b[key.Size():]
	}
	return out, nil
}

// SignSession proves to the other side that this one has the key of its certificate:
// over the certificate and the nonce of the other side.
func SignSession(key *rsa.PrivateKey, certificate, nonce []byte) (Signature, error) {
	value, err := sign(key, append(bytes.Clone(certificate), nonce...))
	if err != nil {
		return Signature{}, fmt.Errorf("%w: %w", ErrSecurity, err)
	}
	return Signature{Algorithm: algorithmSignature, Value: value}, nil
}

// VerifySession checks what SignSession of the other side made.
func VerifySession(peer *x509.Certificate, certificate, nonce []byte, s Signature) error {
	return verify(peer, append(bytes.Clone(certificate), nonce...), s.Value)
}

// EncryptPassword encrypts a password for the server by a token's policy, together
// with the nonce that the server gave. Without a policy it stays as it is.
func EncryptPassword(random io.Reader, policy string, server *x509.Certificate, password string, nonce []byte) (secret []byte, algorithm string, err error) {
	switch {
	case policy == None.URI:
		return []byte(password), "", nil
	case !passwordPolicies[policy]:
		return nil, "", fmt.Errorf("the server wants the password encrypted by %s, which is not there", PolicyName(policy))
	}
	plain := binary.LittleEndian.AppendUint32(nil, uint32(len(password)+len(nonce))) //nolint:gosec // short
	plain = append(append(plain, password...), nonce...)
	secret, err = encryptOAEP(random, server, plain)
	return secret, algorithmPassword, err
}

// CanEncryptPassword reports whether EncryptPassword knows a policy.
func CanEncryptPassword(policy string) bool { return policy == None.URI || passwordPolicies[policy] }

// PolicyName is the last part of a policy's URI.
func PolicyName(uri string) string {
	if len(uri) > len(policyPrefix) && uri[:len(policyPrefix)] == policyPrefix {
		uri = uri[len(policyPrefix):]
	}
	return fmt.Sprintf("%.60s", uri)
}
