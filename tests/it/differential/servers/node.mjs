// Node's own HTTP server: tells what it took for a request.
import http from 'node:http';

const [host, port] = process.argv.slice(2);
const server = http.createServer({ maxHeaderSize: 1 << 20 }, (request, response) => {
    let content = 0;
    request.on('data', (chunk) => (content += chunk.length));
    request.on('end', () => {
        response.writeHead(200, {
            'X-Seen': `${request.method} ${request.url}`,
            'X-Content': content,
            'Content-Length': 0,
        });
        response.end();
    });
});
server.listen(Number(port), host);
