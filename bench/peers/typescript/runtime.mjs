// The loop that Lambda's managed runtime for Node has: its own (aws-lambda-ric) is built from C++ when it is installed.
// One connection, which is kept, and nothing else.

import http from 'node:http';

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function ask(method, path, body) {
  const headers = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, method, path: `/2018-06-01/runtime${path}`, headers, agent }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }));
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

const { handler } = await import('./function.mjs');
for (;;) {
  const invocation = await ask('GET', '/invocation/next');
  const id = invocation.headers['lambda-runtime-aws-request-id'];
  const answer = await handler(JSON.parse(invocation.body));
  await ask('POST', `/invocation/${id}/response`, JSON.stringify(answer));
}
