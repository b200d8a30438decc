package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const foreignKeyID = "foreign-1"

// foreignDomain is a trust domain that ours federates with: its authorities are here, its bundle is
// written by go-spiffe.
type foreignDomain struct {
	domain    spiffeid.TrustDomain
	bundle    *spiffebundle.Bundle
	key       *ecdsa.PrivateKey
	authority *x509.Certificate
}

func newForeignDomain() *foreignDomain {
	domain := spiffeid.RequireTrustDomainFromString("foreign.example.net")
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := certificate(domain.ID())
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	authority := must(x509.ParseCertificate(der))
	bundle := spiffebundle.FromX509Authorities(domain, []*x509.Certificate{authority})
	bundle.SetSequenceNumber(7)
	bundle.SetRefreshHint(time.Hour)
	err := bundle.AddJWTAuthority(foreignKeyID, key.Public())
	check(err == nil, "%v", err)
	return &foreignDomain{domain, bundle, key, authority}
}

func certificate(id spiffeid.ID) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          must(rand.Int(rand.Reader, big.NewInt(1<<62))),
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(time.Hour),
		URIs:                  []*url.URL{id.URL()},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
}

// setBundle gives the bundle to our server, as an operator does.
func (f *foreignDomain) setBundle() {
	path := filepath.Join(os.Getenv("WORLD"), "foreign.json")
	err := os.WriteFile(path, must(f.bundle.Marshal()), 0o600)
	check(err == nil, "%v", err)
	claviger("bundle", "set", "--id", f.domain.IDString(), "--format", "spiffe", "--path", path)
}

func (f *foreignDomain) newX509SVID() []*x509.Certificate {
	leaf := certificate(spiffeid.RequireFromPath(f.domain, "/them"))
	der := must(x509.CreateCertificate(rand.Reader, leaf, f.authority, f.key.Public(), f.key))
	return []*x509.Certificate{must(x509.ParseCertificate(der))}
}

func (f *foreignDomain) newJWTSVID(audience string) string {
	key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: f.key, KeyID: foreignKeyID}}
	signer := must(jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT")))
	return must(jwt.Signed(signer).Claims(jwt.Claims{
		Subject:  spiffeid.RequireFromPath(f.domain, "/them").String(),
		Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(time.Now()),
		Expiry:   jwt.NewNumericDate(time.Now().Add(time.Minute)),
	}).Serialize())
}
