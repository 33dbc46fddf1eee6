// Package hashing computes Argon2id in processes of their own.
//
// Make a [Pool] with the command that ends up in [Serve], and call [Pool.Derive];
// [Pool.Close] ends the processes.
//
// A hashing takes a hundred times as long as anything else that this service does,
// and 19 MiB. In one process with the rest, two of them at a time make everybody
// wait: for Go's scheduler, and for a garbage collection every few milliseconds,
// which cannot go on while a thread of low priority is not let run. As processes
// they give way to everything else on the machine, and what they do to memory is
// their own affair.
//
// Each process does one hashing at a time, in order, and ends when its input does:
// with the pool, or with the service, however that ends. If one ends before, or
// cannot be started, its hashing is done here; and also, but one at a time, if it
// takes long because everything else on the machine never ceases.
//
// The package bounds neither how many wait nor for how long; that is the caller's.
package hashing

import (
	"encoding/gob"
	"errors"
	"io"
	"os/exec"
	"time"

	"golang.org/x/crypto/argon2"
)

// patience is how long a process may take. Undisturbed a hashing takes a tenth of it.
const patience = 250 * time.Millisecond

// Job is one computation. Memory is in KiB.
type Job struct {
	Password, Salt []byte
	Passes, Memory uint32
	Threads        uint8
	Size           uint32
}

func (j Job) derive() []byte {
	return argon2.IDKey(j.Password, j.Salt, j.Passes, j.Memory, j.Threads, j.Size)
}

// Serve does what comes from in and writes the results to out, until in ends.
func Serve(in io.Reader, out io.Writer) error {
	giveWay()
	jobs, results := gob.NewDecoder(in), gob.NewEncoder(out)
	for {
		var j Job
		if err := jobs.Decode(&j); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := results.Encode(j.derive()); err != nil {
			return err
		}
	}
}

// Pool is processes that hash. It is safe for concurrent use.
type Pool struct {
	command func() *exec.Cmd
	idle    chan *process // nil for one that is to be started
	failed  func(error)
	// here is full while something is derived here because the processes are late.
	here chan struct{}
}

// New returns a pool of up to n processes, each started when it is first needed.
// Failed is told of those that could not be, or that have ended.
func New(n int, command func() *exec.Cmd, failed func(error)) *Pool {
	p := &Pool{command: command, idle: make(chan *process, n), failed: failed, here: make(chan struct{}, 1)}
	for range n {
		p.idle <- nil
	}
	return p
}

// Derive computes a job.
func (p *Pool) Derive(j Job) []byte {
	late := time.NewTimer(patience)
	defer late.Stop()
	hash := make(chan []byte, 1)
	idle, expired, here := p.idle, late.C, chan<- struct{}(nil)
	for {
		select {
		case w := <-idle:
			idle = nil
			go func() { hash <- p.ask(w, j) }()
		case h := <-hash:
			if h == nil {
				return j.derive()
			}
			return h
		case <-expired:
			// A machine that lets no process hash has little to give, and requests want
			// it. While another is being done here the process may still be the first.
			expired, here = nil, p.here
		case here <- struct{}{}:
			defer func() { <-p.here }()
			return j.derive()
		}
	}
}

// ask lets a process do a job. It returns nil if that has failed.
func (p *Pool) ask(w *process, j Job) (hash []byte) {
	var err error
	if w == nil {
		w, err = start(p.command())
	}
	if err == nil {
		if hash, err = w.do(j); err != nil {
			hash = nil
			w.end()
		}
	}
	if err != nil {
		p.failed(err)
		w = nil
	}
	p.idle <- w
	return hash
}

// Close ends the processes. Nothing may be derived any more. One that still has
// something to do ends with the service at the latest.
func (p *Pool) Close() {
	late := time.After(patience)
	for range cap(p.idle) {
		select {
		case w := <-p.idle:
			if w != nil {
				w.end()
			}
		case <-late:
			return
		}
	}
}

type process struct {
	cmd     *exec.Cmd
	in      io.Closer
	jobs    *gob.Encoder
	results *gob.Decoder
}

func start(cmd *exec.Cmd) (*process, error) {
	apart(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd, in, gob.NewEncoder(in), gob.NewDecoder(out)}, nil
}

func (w *process) do(j Job) (hash []byte, err error) {
	if err = w.jobs.Encode(j); err == nil {
		err = w.results.Decode(&hash)
	}
	if err == nil && len(hash) != int(j.Size) {
		err = errors.New("hashing: a result of another size")
	}
	return hash, err
}

func (w *process) end() {
	w.in.Close()
	_ = w.cmd.Process.Kill() // it has nothing to lose
	_ = w.cmd.Wait()
}
