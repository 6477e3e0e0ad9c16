package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of the pictures that the demo keeps.
const (
	maxPictures    = 500
	maxUnfinished  = 64 << 20
	picturesFolder = "pictures"
)

// pictures puts the pictures together that come in chunks, as any receiver can, and
// writes them into a folder for who wants to look.
type pictures struct {
	dir string

	mu        sync.Mutex
	assembler *event.Assembler
	names     map[string]string // by hash
	kept      int
}

func newPictures(dir string) *pictures {
	return &pictures{dir: filepath.Join(dir, picturesFolder), assembler: event.NewAssembler(maxUnfinished), names: map[string]string{}}
}

// announce notes what pictures are called, before their chunks come.
func (p *pictures) announce(list []event.Attachment, of string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.names) > 10*maxPictures {
		clear(p.names)
	}
	for _, a := range list {
		p.names[a.SHA256] = of + "-" + a.Name
	}
}

// add takes a chunk. It returns the path of a picture that is complete with it.
func (p *pictures) add(topic string, payload []byte) (path string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	content, complete, err := p.assembler.Add(topic, payload)
	if err != nil || !complete || p.kept >= maxPictures {
		return "", err
	}
	c, err := event.ParseChunkTopic(topic)
	if err != nil {
		return "", err
	}
	ending := map[string]string{"image/jpeg": ".jpg", "image/png": ".png"}[http.DetectContentType(content)]
	if ending == "" {
		return "", nil
	}
	name := filepath.Base(p.names[c.SHA256])
	if name == "." {
		name = c.SHA256[:16]
	}
	if filepath.Ext(name) != ending {
		name += ending
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return "", fmt.Errorf("keep a picture: %w", err)
	}
	path = filepath.Join(p.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return "", fmt.Errorf("keep a picture: %w", err)
	}
	p.kept++
	return path, nil
}
