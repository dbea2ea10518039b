// Runtime loop in place of Lambda's managed runtime for Node: aws-lambda-ric is compiled from C++ at installation. Uses
// one keep-alive connection.

import http from 'node:http';

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function send(method, path, body) {
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
  const invocation = await send('GET', '/invocation/next');
  const id = invocation.headers['lambda-runtime-aws-request-id'];
  const result = await handler(JSON.parse(invocation.body));
  await send('POST', `/invocation/${id}/response`, JSON.stringify(result));
}
