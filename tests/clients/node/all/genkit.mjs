// Genkit: a model of the Gemini API with the tools of several servers.
//
//     node genkit.mjs PROVIDER_URL MODEL PROMPT NAME=URL...

import { googleAI } from '@genkit-ai/google-genai';
import { createMcpHost } from '@genkit-ai/mcp';
import { genkit } from 'genkit';

const [provider, , prompt, ...servers] = process.argv.slice(2);
const mcpServers = Object.fromEntries(servers.map((entry) => entry.split('=')).map(([name, url]) => [name, { url }]));
const host = createMcpHost({ name: 'clients', mcpServers });
const ai = genkit({ plugins: [googleAI({ apiKey: 'none', baseUrl: provider })] });
const tools = await host.getActiveTools(ai);
const { text } = await ai.generate({ model: googleAI.model('gemini-2.5-pro'), prompt, tools, maxTurns: 20 });
await host.close();
console.log(text);
