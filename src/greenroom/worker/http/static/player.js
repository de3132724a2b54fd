// Plays pieces of signed 16-bit samples one after another without a seam.

export const RATE = 24000;

export class Player {
  constructor() {
    this.context = new AudioContext({ sampleRate: RATE });
    this.next = 0;
    this.seconds = 0;
    this.shift = 0;  // from seconds of the last piece's audio to the context's time
    this.rest = new Uint8Array();
  }

  play(bytes) {
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    const even = all.length & ~1;
    this.rest = all.slice(even);
    if (!even || this.context.state === "closed") return;
    const view = new DataView(all.buffer, 0, even);
    const buffer = this.context.createBuffer(1, even / 2, RATE);
    const samples = buffer.getChannelData(0);
    for (let i = 0; i < samples.length; i += 1) samples[i] = view.getInt16(2 * i, true) / 32768;
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    this.next = Math.max(this.next, this.context.currentTime + 0.02);
    source.start(this.next);
    this.shift = this.next - this.seconds;
    this.next += buffer.duration;
    this.seconds += buffer.duration;
  }

  // Resolves when what was played has been heard.
  end() {
    const left = this.context.state === "running" ? this.next - this.context.currentTime : 0;
    return new Promise((resolve) => setTimeout(resolve, Math.max(0, left * 1000)));
  }

  close() {
    if (this.context.state !== "closed") this.context.close();
  }
}
