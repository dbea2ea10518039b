// Google's Agent Development Kit: an agent with the tools of several servers, on the Gemini API.
//
//     node adk.mjs PROVIDER_URL MODEL PROMPT NAME=URL...

import { InMemoryRunner, LlmAgent, MCPToolset } from '@google/adk';

const [, , prompt, ...servers] = process.argv.slice(2);
const tools = servers.map((entry) => {
  const [name, url] = entry.split('=');
  return new MCPToolset({ type: 'StreamableHTTPConnectionParams', url }, undefined, name.replace('-', '_'));
});
const agent = new LlmAgent({ name: 'clients', model: 'gemini-2.5-pro', instruction: 'Use the tools.', tools });
const runner = new InMemoryRunner({ agent, appName: 'clients' });
const session = await runner.sessionService.createSession({ appName: 'clients', userId: 'tester' });
const newMessage = { role: 'user', parts: [{ text: prompt }] };
for await (const event of runner.runAsync({ userId: 'tester', sessionId: session.id, newMessage })) {
  if (event.errorMessage) throw new Error(event.errorMessage);
  for (const part of event.content?.parts ?? []) if (part.text) console.log(part.text);
}
for (const tool of tools) await tool.close();
