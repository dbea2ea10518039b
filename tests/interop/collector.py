"""An OpenTelemetry collector: what is sent to it by OTLP over HTTP."""

import http.server
import threading
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

PATIENCE_SECONDS = 60


class Span:
    """A span with the resource that it is from."""

    def __init__(self, span, resource):
        self.name, self.kind, self.links = span.name, span.kind, span.links
        self.trace_id, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.end, self.trace_state, self.has_failed = span.end_time_unix_nano, span.trace_state, span.status.code == 2
        self.attributes, self.resource = values(span.attributes), values(resource.attributes)


def values(attributes):
    return {own.key: getattr(own.value, own.value.WhichOneof("value")) for own in attributes}


class Collector:
    """Listens on a free port of loopback until it is stopped."""

    def __init__(self):
        self.bodies, self.spans = [], []
        self.changed = threading.Condition()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(handler):
                body = handler.rfile.read(int(handler.headers["content-length"]))
                is_expected = handler.path == "/v1/traces" and handler.headers["content-type"] == "application/x-protobuf"
                if is_expected:
                    self.take(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                handler.send_response(200 if is_expected else 400)
                handler.send_header("Content-Type", "application/x-protobuf")
                handler.send_header("Content-Length", str(len(answer)))
                handler.end_headers()
                handler.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, body):
        request = ExportTraceServiceRequest.FromString(body)
        with self.changed:
            self.bodies.append(body)
            for of_resource in request.resource_spans:
                for of_scope in of_resource.scope_spans:
                    self.spans += [Span(span, of_resource.resource) for span in of_scope.spans]
            self.changed.notify_all()

    def trace_of(self, parent):
        """Waits for the span below a client's, which ends last; returns all that came of its trace, by name."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.changed:
            while not any(span.parent == parent for span in self.spans):
                assert self.changed.wait(deadline - time.monotonic()), f"no span below {parent}"
            trace = next(span.trace_id for span in self.spans if span.parent == parent)
            found = [span for span in self.spans if span.trace_id == trace]
        assert len({span.name for span in found}) == len(found), [span.name for span in found]
        return {span.name: span for span in found}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
