package redistest

import "context"

// Snapshot makes a real server that is no Cluster write what it holds to its disk.
func (s *Server) Snapshot() {
	s.tb.Helper()
	if err := s.Client.Save(context.Background()).Err(); err != nil {
		s.tb.Fatalf("redistest: SAVE: %v", err)
	}
}

// Restore kills such a server, as often as is wanted, and starts it again with
// what it held at the last [Server.Snapshot], under the same address.
func (s *Server) Restore() {
	s.tb.Helper()
	r, ok := s.backend.(*realServers)
	if !ok || len(r.nodes) != 1 {
		s.tb.Fatal("redistest: only a single real server can be restored")
	}
	if err := r.nodes[0].restart(); err != nil {
		s.tb.Fatalf("redistest: restart: %v", err)
	}
}
