package hatchet

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A restError is an error with the status and text of its answer.
type restError struct {
	code int
	text string
}

func (e *restError) Error() string { return e.text }

// restHandler answers a request with a value, which becomes JSON, or an error.
type restHandler func(r *http.Request) (any, error)

// noContent is the answer that there is nothing to say.
type noContent struct{}

// plainText is an answer that is not JSON.
type plainText string

// newREST returns the handler of all paths under /api/v1.
func (s *Server) newREST() http.Handler {
	mux := http.NewServeMux()
	open := func(pattern string, h restHandler) { mux.Handle(pattern, s.rest(h)) }
	handle := func(pattern string, h restHandler) {
		mux.Handle(pattern, s.authorized(s.rest(h)))
	}
	open("GET /api/v1/version", func(*http.Request) (any, error) { return map[string]string{"version": engineVersion}, nil })
	mux.Handle("/api/v1/", s.authorized(s.rest(func(r *http.Request) (any, error) {
		return nil, pathNotServed(r)
	})))
	s.handleRuns(handle)
	s.handleCatalog(handle)
	s.handleEvents(handle)
	s.handleCrons(handle)
	s.handleFilters(handle)
	s.handleWebhooks(handle, open)
	s.handleMetrics(handle)
	s.handleLogs(handle)
	return mux
}

// pathNotServed is the error of a path that is not served.
func pathNotServed(r *http.Request) error {
	return &restError{http.StatusNotImplemented, r.Method + " " + r.URL.Path + ": stint does not serve it"}
}

// authorized refuses requests without a valid token, and those of another tenant.
func (s *Server) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := s.tokens.check(r.Context(), r.Header.Get("Authorization"))
		switch tenant := r.PathValue("tenant"); {
		case errors.Is(err, errToken):
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, &restError{http.StatusUnauthorized, err.Error()})
		case err != nil:
			writeError(w, err)
		case tenant != "" && tenant != s.tenant:
			writeError(w, &restError{http.StatusForbidden, "the token is not of tenant " + tenant})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *Server) rest(h restHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := func() (v any, err error) {
			defer s.recovered(&err)
			return h(r)
		}()
		if err != nil {
			writeError(w, err)
			return
		}
		if _, none := v.(noContent); none {
			if r.Method != "DELETE" { // the Go SDK takes every status but 200 for an error of a deletion
				w.WriteHeader(http.StatusNoContent)
			}
			return
		}
		if text, plain := v.(plainText); plain {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			io.WriteString(w, string(text)) // the caller may be gone
			return
		}
		body, err := json.Marshal(v)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(body) // the caller may be gone
	})
}

// writeError answers with an error: the status is its own, or that which fits a status of gRPC.
func writeError(w http.ResponseWriter, err error) {
	var own *restError
	if !errors.As(err, &own) {
		st, _ := status.FromError(statusOf(err))
		own = &restError{http.StatusInternalServerError, st.Message()}
		switch st.Code() {
		case codes.InvalidArgument:
			own.code = http.StatusBadRequest
		case codes.NotFound:
			own.code = http.StatusNotFound
		case codes.AlreadyExists, codes.FailedPrecondition:
			own.code = http.StatusConflict
		case codes.ResourceExhausted:
			own.code = http.StatusTooManyRequests
		case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
			own.code = http.StatusServiceUnavailable
		}
	}
	body, _ := json.Marshal(map[string]any{"errors": []map[string]string{{"description": own.text}}}) // it has only texts
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(own.code)
	w.Write(body) // the caller may be gone
}

// readJSON decodes a request's body.
func readJSON(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return &restError{http.StatusRequestEntityTooLarge, "the request has more than " + itoa(int(large.Limit)) + " bytes"}
		}
		return invalid("the request is not the JSON that is wanted: %v", err)
	}
	return nil
}
