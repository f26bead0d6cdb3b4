// Verifies a log of an export with the packages that Go's own module mirror is verified with: the note, the tree over the entries,
// and the proof of one of them. go run verify.go EXPORT/log-0 PROOF
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(path ...string) []byte {
	text, err := os.ReadFile(filepath.Join(path...))
	must(err)
	return text
}

func hash(text string) (h tlog.Hash) {
	bytes, err := base64.StdEncoding.DecodeString(text)
	must(err)
	copy(h[:], bytes)
	return h
}

func main() {
	key, _, _ := strings.Cut(string(read(os.Args[1], "verifier-keys")), "\n")
	verifier, err := note.NewVerifier(key)
	must(err)
	signed, err := note.Open(read(os.Args[1], "checkpoint"), note.VerifierList(verifier))
	must(err)
	lines := strings.Split(signed.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root := hash(lines[2])

	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	entries := bytes.Split(bytes.TrimSuffix(read(os.Args[1], "entries"), []byte("\n")), []byte("\n"))
	for index, entry := range entries {
		hashes, err := tlog.StoredHashes(int64(index), entry, reader)
		must(err)
		stored = append(stored, hashes...)
	}
	found, err := tlog.TreeHash(int64(len(entries)), reader)
	must(err)
	if int64(len(entries)) != size || found != root {
		must(fmt.Errorf("%d entries with the root %v, and %d with %v were signed", len(entries), found, size, root))
	}

	proof, checkpoint, _ := strings.Cut(string(read(os.Args[2])), "\n\n")
	_, err = note.Open([]byte(checkpoint), note.VerifierList(verifier))
	must(err)
	of := strings.Split(checkpoint, "\n")
	count, err := strconv.ParseInt(of[1], 10, 64)
	must(err)
	lines = strings.Split(proof, "\n")
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	must(err)
	var way tlog.RecordProof
	for _, line := range lines[2:] {
		way = append(way, hash(line))
	}
	must(tlog.CheckRecord(way, count, hash(of[2]), index, tlog.RecordHash(entries[index])))
	fmt.Println(size)
}
