// Checks audit logs of Claviger with the code of Go's checksum database (golang.org/x/mod/sumdb), and
// nothing of ours.
//
//	audit export KEY FILE [OLDER-CHECKPOINT]   an export, which has to continue an older checkpoint
//	audit proof KEY FILE [WITNESS-KEY]         a proof that a record is in the log
package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: audit export|proof KEY FILE [MORE]")
		os.Exit(2)
	}
	verb, key, file, more := os.Args[1], os.Args[2], os.Args[3], ""
	if len(os.Args) > 4 {
		more = os.Args[4]
	}
	verifier, err := note.NewVerifier(key)
	if err == nil {
		switch verb {
		case "export":
			err = export(verifier, file, more)
		case "proof":
			err = proof(verifier, file, more)
		default:
			err = errors.New("no such verb")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A line of an export: a record, or the checkpoint at the end.
type line struct {
	Seq        int64
	Hash       string
	Body       json.RawMessage
	Checkpoint string
}

func export(verifier note.Verifier, path, older string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for at, index := range indexes {
			found[at] = hashes[index]
		}
		return found, nil
	})
	var size int64
	checkpoint := ""
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return err
		}
		if checkpoint != "" {
			return errors.New("the export goes on after its checkpoint")
		}
		if checkpoint = l.Checkpoint; checkpoint != "" {
			continue
		}
		if l.Seq != size+1 {
			return fmt.Errorf("record %d follows record %d", l.Seq, size)
		}
		leaf := tlog.RecordHash(l.Body)
		if fmt.Sprintf("%x", leaf[:]) != l.Hash {
			return fmt.Errorf("record %d does not have its hash", l.Seq)
		}
		more, err := tlog.StoredHashesForRecordHash(size, leaf, reader)
		if err != nil {
			return err
		}
		hashes = append(hashes, more...)
		size++
	}
	if err := lines.Err(); err != nil {
		return err
	}
	head, err := open(verifier, checkpoint)
	if err != nil {
		return err
	}
	if err := compare(head, size, reader); err != nil {
		return err
	}
	if older == "" {
		fmt.Printf("%d records\n", size)
		return nil
	}
	text, err := os.ReadFile(older)
	if err != nil {
		return err
	}
	before, err := open(verifier, string(text))
	if err != nil {
		return err
	}
	if before.N > size {
		return fmt.Errorf("there were %d records, and now there are %d", before.N, size)
	}
	if err := compare(before, before.N, reader); err != nil {
		return fmt.Errorf("the log does not continue the older checkpoint: %w", err)
	}
	// The same by a proof, which does not take the records.
	steps, err := tlog.ProveTree(size, before.N, reader)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(steps, size, head.Hash, before.N, before.Hash); err != nil {
		return err
	}
	fmt.Printf("%d records, %d of them of before\n", size, before.N)
	return nil
}

func compare(head tlog.Tree, size int64, reader tlog.HashReader) error {
	if head.N != size {
		return fmt.Errorf("%d records were signed, and there are %d", head.N, size)
	}
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		return err
	}
	if root != head.Hash {
		return fmt.Errorf("the first %d records have another root than the one that was signed", size)
	}
	return nil
}

// open verifies a checkpoint and reads its first three lines.
func open(verifier note.Verifier, text string) (tlog.Tree, error) {
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("the checkpoint is that of another log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// proof checks a file of the form c2sp.org/tlog-proof@v1 whose extra data is the record.
func proof(verifier note.Verifier, path, witness string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, checkpoint, _ := strings.Cut(string(text), "\n\n")
	lines := strings.Split(before, "\n")
	if len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("it is no proof")
	}
	body, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	if err != nil {
		return err
	}
	var steps tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		steps = append(steps, hash)
	}
	head, err := open(verifier, checkpoint)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(steps, head.N, head.Hash, index, tlog.RecordHash(body)); err != nil {
		return err
	}
	if witness != "" {
		cosigner, err := newCosigner(witness)
		if err != nil {
			return err
		}
		if _, err := note.Open([]byte(checkpoint), note.VerifierList(cosigner)); err != nil {
			return err
		}
	}
	fmt.Printf("record %d of %d: %s\n", index+1, head.N, body)
	return nil
}

// cosigner verifies signatures of witnesses (c2sp.org/tlog-cosignature, cosignature/v1), which the library
// does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(text string) (*cosigner, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("it is no verifier key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, errors.New("it is no key of a witness")
	}
	id := sha256.Sum256(bytes.Join([][]byte{[]byte(parts[0]), key}, []byte("\n")))
	return &cosigner{parts[0], binary.BigEndian.Uint32(id[:4]), key[1:]}, nil
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }
func (c *cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(signature)
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, text)
	return ed25519.Verify(c.key, []byte(message), signature[8:])
}
