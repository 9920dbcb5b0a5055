package server

import (
	"context"

	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/link"
)

// Connections can't travel on Windows, where no process follows another.

func (s *Server) receiveFrom(_ context.Context, l *link.Conn) { l.Close() }

func (s *Server) sender(*link.Conn, <-chan struct{}) *handover.Sender { return nil }

func (s *Server) sent(context.Context, *handover.Sender) {}
