package link

import (
	"context"
	"errors"
)

func (e *serialEndpoint) Open(ctx context.Context) (Conn, error) {
	return nil, errors.New("serial ports follow with the next commit")
}
