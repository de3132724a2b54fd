// `openai` for Node. Arguments: the worker's address, what to do; prints JSON, writes files here.
import { writeFile } from 'node:fs/promises';
import OpenAI from 'openai';

const [address, task, text] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: 'any', maxRetries: 0 });
const asked = { model: 'gpt-4o-mini-tts', voice: 'coral', instructions: 'Cheerful.', input: text };

async function refusal(body) {
  try {
    await client.audio.speech.create(body);
  } catch (error) {
    const { name, status, message, param, code, requestID } = error;
    return { kind: error.constructor.name, name, status, message, param, code, requestID };
  }
  return null;
}

const tasks = {
  async formats() {
    for (const format of ['mp3', 'opus', 'aac', 'flac', 'wav', 'pcm']) {
      const answer = await client.audio.speech.create({ ...asked, response_format: format });
      await writeFile(`speech.${format}`, Buffer.from(await answer.arrayBuffer()));
    }
  },
  async streaming() {
    const answer = await client.audio.speech.create({ ...asked, response_format: 'pcm' });
    const reader = answer.body.getReader();
    const { value } = await reader.read();
    const { models } = await (await fetch(`${address}/api/ps`)).json();
    await reader.cancel();
    return { first: value.length, streams: models.reduce((sum, model) => sum + model.streams, 0) };
  },
  async events() {
    const answer = await client.audio.speech.create({ ...asked, stream_format: 'sse' });
    const lines = (await answer.text()).split('\n').filter((line) => line.startsWith('data: '));
    return { kind: answer.headers.get('content-type'), events: lines.map((line) => line.slice(6)) };
  },
  async models() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    return { listed, found: (await client.models.retrieve('tone-220')).id };
  },
  async refusals() {
    return {
      voice: await refusal({ ...asked, voice: 'tone-22' }),
      speed: await refusal({ ...asked, speed: 4.5 }),
      model: await refusal({ ...asked, model: 'whisper' }),
    };
  },
};

console.log(JSON.stringify((await tasks[task]()) ?? null));
