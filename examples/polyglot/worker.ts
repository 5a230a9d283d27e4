// The TypeScript worker: it has one task of the workflow, and says nothing of the others.
import { HatchetClient } from '@hatchet-dev/typescript-sdk';

type Statistics = { count: number; mean: number; median: number; deviation: number };

const hatchet = HatchetClient.init();
const sizes = hatchet.workflow({ name: 'sizes' });

sizes.task({
  name: 'report',
  fn: async (_input, ctx) => {
    const s = (await ctx.parentOutput('statistics')) as Statistics;
    const bytes = new Intl.NumberFormat('en', { style: 'unit', unit: 'byte', unitDisplay: 'long', maximumFractionDigits: 1 });
    return { text: `${s.count} files: median ${bytes.format(s.median)}, mean ${bytes.format(s.mean)} ± ${bytes.format(s.deviation)}` };
  },
});

async function main() {
  const worker = await hatchet.worker('typescript', { workflows: [sizes] });
  await worker.start();
}

main();
