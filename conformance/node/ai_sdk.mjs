// Vercel's AI SDK. Arguments: the worker's address, what to do; prints JSON, writes files here.
import { writeFile } from 'node:fs/promises';
import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, generateSpeech } from 'ai';

const [address, task, text] = process.argv.slice(2);
const greenroom = createOpenAI({ baseURL: `${address}/v1`, apiKey: 'any' });

async function speech(file, options) {
  const { audio, warnings } = await generateSpeech({
    model: greenroom.speech('tts-1'),
    text,
    ...options,
  });
  await writeFile(file, audio.uint8Array);
  return { mediaType: audio.mediaType, format: audio.format, warnings };
}

const tasks = {
  async defaults() {
    return await speech('speech.mp3', {});
  },
  async formats() {
    const found = {};
    for (const format of ['mp3', 'opus', 'aac', 'flac', 'wav', 'pcm']) {
      found[format] = await speech(`speech.${format}`, { outputFormat: format, voice: 'nova' });
    }
    return found;
  },
  async speed() {
    await speech('slow.wav', { outputFormat: 'wav', speed: 0.5, instructions: 'Calm.' });
    await speech('fast.wav', { outputFormat: 'wav', speed: 2.0, instructions: 'Calm.' });
  },
  async refusal() {
    try {
      await speech('none.mp3', { voice: 'tone-22' });
    } catch (error) {
      const { statusCode, message, isRetryable } = error;
      return { isCallError: APICallError.isInstance(error), statusCode, message, isRetryable };
    }
  },
};

console.log(JSON.stringify((await tasks[task]()) ?? null));
