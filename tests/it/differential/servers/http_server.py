# Python's own HTTP server: tells what it took for a request.
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        if name.startswith('do_'):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        content = self.chunks() if 'Transfer-Encoding' in self.headers else self.length()
        self.send_response(200)
        self.send_header('X-Seen', f'{self.command} {self.path}')
        self.send_header('X-Content', str(content))
        self.send_header('Content-Length', '0')
        self.end_headers()

    def length(self):
        return self.take(int(self.headers.get('Content-Length', '0')))

    def chunks(self):
        content = 0
        while size := int(self.rfile.readline(), 16):
            content += self.take(size)
            self.rfile.readline()
        while self.rfile.readline() not in (b'\r\n', b'\n', b''):
            pass
        return content

    # A piece at a time: what is promised may be more than there is memory.
    def take(self, size):
        left = size
        while left and (piece := self.rfile.read(min(left, 1 << 16))):
            left -= len(piece)
        return size - left

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_):
        pass


Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
